"""Host memory that the GPU reads by itself: the tensors of one block, one after another."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNMENT = 256
"""Bytes; what CUDA's own allocator gives, so that kernels find tensors where they expect them."""
SMALLEST_PIECE = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the bytes of its block."""

    begin: int
    dtype: torch.dtype
    shape: torch.Size

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.begin + self.dtype.itemsize * self.shape.numel()

    def view(self, memory: Tensor) -> Tensor:
        """The tensor in `memory`, uint8 `[bytes]`."""
        return memory[self.begin : self.end].view(self.dtype).view(self.shape)


class PinnedBytes:
    """A copy of tensors in host memory, pinned where the device is a GPU.

    torch rounds a pinned allocation up to a power of two, and a block of 14B would take half as much again as it
    holds. So it is kept in pieces that are powers of two: 335 MiB in 256 + 64 + 8 + 4 + 2 + 1. Freed pieces are taken
    again by the next expert.
    """

    def __init__(self, tensors: Iterable[Tensor], *, pinned: bool) -> None:
        """Copy `tensors`, of any device, one by one."""
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
        """Start to copy everything to the front of `memory`, uint8 on the device, on the current stream."""
        for begin, piece in self._parts():
            length = min(piece.numel(), self.nbytes - begin)
            memory[begin : begin + length].copy_(piece[:length], non_blocking=True)

    def _parts(self) -> Iterator[tuple[int, Tensor]]:
        begin = 0
        for piece in self._pieces:
            yield begin, piece
            begin += piece.numel()


def piece_sizes(nbytes: int) -> list[int]:
    """Powers of two, the largest first, that together hold `nbytes` and less than `SMALLEST_PIECE` more."""
    rounded = -(-nbytes // SMALLEST_PIECE) * SMALLEST_PIECE
    return [1 << bit for bit in range(rounded.bit_length() - 1, -1, -1) if rounded >> bit & 1]
