"""The tensors of an encoder's files, read a few rows at a time, so that none is ever whole in memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.pth_file import read_pth
from vq_core.files.tensor_file import DTYPE_NAMES, TensorInfo, TensorSpec, read_header

PIECE_BYTES = 64 << 20
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


class TensorReader(Protocol):
    """The tensors of one encoder as they lie on disk."""

    @property
    def where(self) -> Path:
        """The folder or file, for messages."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Dtype and shape of every tensor."""

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The tensor `name`, some rows after the other; one of no dimension in one piece."""


class SafetensorsReader:
    """The safetensors file `where`, or those in the folder `where`."""

    def __init__(self, where: Path) -> None:
        """Read the headers.

        Raises:
            VqError: no such file, one that is damaged, or a tensor that is in two of them.
        """
        self.where = where
        self._found: dict[str, tuple[Path, TensorInfo]] = {}
        for path in [where] if where.is_file() else sorted(where.glob("*.safetensors")):
            for name, info in read_header(path).items():
                if name in self._found:
                    first = self._found[name][0].name
                    raise VqError(f"`{name}` is in {first} and in {path.name} of {where}: remove the stale file.")
                self._found[name] = (path, info)
        if not self._found:
            raise VqError(f"{where} holds no safetensors file with tensors: get the encoder's weights.")
        self.specs = {name: TensorSpec(_DTYPES[info.dtype], info.shape) for name, (_, info) in self._found.items()}

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The tensor `name`, some rows after the other."""
        path, info = self._found[name]
        spec = self.specs[name]
        rows = spec.shape[0] if spec.shape else 1
        row_bytes = max(1, spec.nbytes // max(1, rows))
        step = max(1, PIECE_BYTES // row_bytes)
        with path.open("rb") as file:
            file.seek(info.begin)
            for begin in range(0, rows, step):
                count = min(step, rows - begin)
                piece = torch.frombuffer(bytearray(file.read(count * row_bytes)), dtype=spec.dtype)
                yield piece.reshape(count, *spec.shape[1:]) if spec.shape else piece.reshape(())


class PthReader:
    """A `.pth` file of plain tensors, mapped into memory and unpickled by torch's list of harmless types alone."""

    def __init__(self, where: Path) -> None:
        """Read what the file says of its tensors.

        Raises:
            VqError: no such file, or it holds something else.
        """
        self.where = where
        self.specs = {name: TensorSpec(tensor.dtype, tuple(tensor.shape)) for name, tensor in read_pth(where).items()}

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The tensor `name`, some rows after the other; mapped anew, so that what was read before is given back."""
        tensor = read_pth(self.where)[name]
        if tensor.ndim == 0:
            yield tensor
            return
        row_bytes = max(1, tensor[:1].nbytes)
        yield from tensor.split(max(1, PIECE_BYTES // row_bytes))


def open_reader(where: Path) -> TensorReader:
    """The reader for the folder or file `where`, a `.pth` or `.pt` file only where it is named itself."""
    return PthReader(where) if where.suffix in (".pth", ".pt") else SafetensorsReader(where)
