"""Writing one safetensors file piece by piece: its header first, then the tensors in any order, never all in memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from torch import Tensor

from vq_core.files.tensor_file import TensorSpec, bytes_of, header_of, new_file


class TensorStream:
    """The data of a file whose header is written; made by `stream_tensors`. Threads may write a tensor each."""

    def __init__(self, file: BinaryIO, specs: Mapping[str, TensorSpec], begins: Mapping[str, int]) -> None:
        self._file = file
        self._specs = specs
        self._begins = begins
        self._written = dict.fromkeys(specs, 0)
        self._writing = Lock()

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
        content = bytes_of(piece)
        with self._writing:
            self._file.seek(self._begins[name] + begin)
            self._file.write(content)
        self._written[name] = begin + piece.nbytes

    def require_complete(self) -> None:
        """Raise a ValueError if a declared tensor is not complete."""
        lacking = [name for name, spec in self._specs.items() if self._written[name] != spec.nbytes]
        if lacking:
            raise ValueError(f"`{lacking[0]}` is incomplete ({len(lacking)} such tensors)")


@contextmanager
def stream_tensors(path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> Iterator[TensorStream]:
    """Write the safetensors file `path` with the tensors `specs`; it appears whole and on the disk, or not at all.

    The bytes do not depend on the order of the tensors, and are those of `tensor_file.write_tensors`.

    Raises:
        ValueError: the body of the `with` statement did not write what was declared.
        OSError: the disk is full, or `path` may not be written.
    """
    header, begins = header_of(specs, metadata)
    with new_file(path) as file:
        file.write(header)
        stream = TensorStream(file, specs, begins)
        yield stream
        stream.require_complete()
