"""Writing one safetensors file piece by piece: its header first, then the tensors in any order, never all in memory."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from vq_core.tensor_file import publish

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3",
}
"""Safetensors' name of each dtype."""

HEADER_ALIGNMENT = 8


class TensorSpec(NamedTuple):
    """What a tensor will be."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.dtype.itemsize * prod(self.shape)


class TensorStream:
    """The data of a file whose header is written; made by `stream_tensors`."""

    def __init__(self, file: BinaryIO, specs: Mapping[str, TensorSpec], begins: Mapping[str, int]) -> None:
        self._file = file
        self._specs = specs
        self._begins = begins
        self._written = dict.fromkeys(specs, 0)

    def append(self, name: str, piece: Tensor) -> None:
        """Write `piece`, the next rows of the tensor `name`, or the whole of it.

        Raises:
            ValueError: no such tensor was declared, or the piece does not fit into what was.
        """
        spec = self._specs.get(name)
        if spec is None:
            raise ValueError(f"`{name}` was not declared")
        begin = self._written[name]
        if piece.dtype != spec.dtype or piece.shape[1:] != spec.shape[1:] or begin + piece.nbytes > spec.nbytes:
            raise ValueError(f"a piece {piece.dtype} {list(piece.shape)} of `{name}` does not fit into {spec}")
        self._file.seek(self._begins[name] + begin)
        self._file.write(piece.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._written[name] = begin + piece.nbytes

    def require_complete(self) -> None:
        """Refuse to end before everything that was declared is written.

        Raises:
            ValueError: a tensor is not whole.
        """
        lacking = [name for name, spec in self._specs.items() if self._written[name] != spec.nbytes]
        if lacking:
            raise ValueError(f"`{lacking[0]}` is incomplete ({len(lacking)} such tensors)")


@contextmanager
def stream_tensors(path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> Iterator[TensorStream]:
    """Write the safetensors file `path` with the tensors `specs`; it appears whole and on the disk, or not at all.

    Tensors lie in it by size of element, then by name, so that each is aligned; the same tensors give the same bytes in
    whatever order they come.

    Raises:
        ValueError: the block did not write what was declared.
        OSError: the disk is full, or `path` may not be written.
    """
    header, begins = _header(specs, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(header)
            stream = TensorStream(file, specs, begins)
            yield stream
            stream.require_complete()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    publish(temporary, path)


def _header(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """The bytes before the data, and where in the file each tensor begins."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offsets: dict[str, int] = {}
    end = 0
    for name, spec in sorted(specs.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        offsets[name] = end
        end += spec.nbytes
        entries[name] = {
            "dtype": DTYPE_NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {name: start + offset for name, offset in offsets.items()}
