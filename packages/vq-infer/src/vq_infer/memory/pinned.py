"""The tensors of one block in pinned host memory, from which the GPU copies directly."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNMENT = 256
"""Bytes; the alignment of CUDA's own allocator, on which kernels rely."""
SMALLEST_PIECE = 1 << 20


@dataclass(frozen=True)
class Place:
    """Position of a tensor in the bytes of its block."""

    begin: int
    dtype: torch.dtype
    shape: torch.Size

    @property
    def end(self) -> int:
        """The byte after its last."""
        return self.begin + self.dtype.itemsize * self.shape.numel()

    def view(self, memory: Tensor) -> Tensor:
        """The tensor in `memory`, uint8 `[bytes]`."""
        return memory[self.begin : self.end].view(self.dtype).view(self.shape)


class PinnedBytes:
    """A copy of tensors in host memory, pinned if the device is a GPU.

    torch rounds a pinned allocation up to a power of two, which would add half to a block of 14B. So the copy is kept
    in pieces whose sizes are powers of two: 335 MiB in 256 + 64 + 8 + 4 + 2 + 1. The next expert reuses freed pieces.
    """

    def __init__(self, tensors: Iterable[Tensor], *, pinned: bool) -> None:
        """Copy `tensors` from any device."""
        self.places: list[Place] = []
        sources = list(tensors)
        end = 0
        for tensor in sources:
            place = Place(-(-end // ALIGNMENT) * ALIGNMENT, tensor.dtype, tensor.shape)
            self.places.append(place)
            end = place.end
        self.nbytes = end
        self._pieces = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for size in piece_sizes(end)]
        for place, tensor in zip(self.places, sources, strict=True):
            content = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            for begin, piece in self._parts():
                first, last = max(place.begin, begin), min(place.end, begin + piece.numel())
                if first < last:
                    piece[first - begin : last - begin].copy_(content[first - place.begin : last - place.begin])

    def copy_to(self, memory: Tensor) -> None:
        """Start to copy everything to the start of `memory`, uint8 on the device, on the current stream."""
        for begin, piece in self._parts():
            length = min(piece.numel(), self.nbytes - begin)
            memory[begin : begin + length].copy_(piece[:length], non_blocking=True)

    def _parts(self) -> Iterator[tuple[int, Tensor]]:
        begin = 0
        for piece in self._pieces:
            yield begin, piece
            begin += piece.numel()


def piece_sizes(nbytes: int) -> list[int]:
    """Powers of two, the largest first; their sum exceeds `nbytes` by less than `SMALLEST_PIECE`."""
    rounded = -(-nbytes // SMALLEST_PIECE) * SMALLEST_PIECE
    return [1 << bit for bit in range(rounded.bit_length() - 1, -1, -1) if rounded >> bit & 1]
