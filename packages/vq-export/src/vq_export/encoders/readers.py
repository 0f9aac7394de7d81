"""The tensors of an encoder's files, read a few rows at a time, so that none is ever whole in memory."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.pth_file import checksums_of, read_pth, require_sound
from vq_core.files.tensor_file import DTYPE_NAMES, TensorInfo, TensorSpec, read_header

PIECE_BYTES = 64 << 20
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


class SafetensorsReader:
    """The safetensors file `where`, or those in the folder `where`; `specs` are dtype and shape of every tensor.

    Raises:
        VqError: no such file, one that is damaged, or a tensor that is in two of them.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self._found: dict[str, tuple[Path, TensorInfo]] = {}
        for path in [where] if where.is_file() else sorted(where.glob("*.safetensors")):
            for name, info in read_header(path).items():
                if name in self._found:
                    first = self._found[name][0].name
                    raise VqError(f"`{name}` is in {first} and in {path.name} of {where}: give the file that you mean.")
                self._found[name] = (path, info)
        if not self._found:
            raise VqError(f"{where} holds no safetensors file with tensors: get the encoder's weights.")
        self.specs = {name: TensorSpec(_DTYPES[info.dtype], info.shape) for name, (_, info) in self._found.items()}

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The tensor `name` in pieces of some rows; a scalar in one piece."""
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
    """A `.pth` file of plain tensors, mapped into memory and unpickled by torch's list of harmless types alone.

    Raises:
        VqError: no such file, or it holds something else.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self.specs = {name: TensorSpec(tensor.dtype, tuple(tensor.shape)) for name, tensor in read_pth(where).items()}
        self._checksums = checksums_of(where)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The tensor `name` in pieces of some rows. The file is mapped anew, which frees what was read before."""
        tensor = read_pth(self.where)[name]
        require_sound(tensor, self._checksums, f"`{name}` in {self.where}")
        if tensor.ndim == 0:
            yield tensor
            return
        row_bytes = max(1, tensor[:1].nbytes)
        yield from tensor.split(max(1, PIECE_BYTES // row_bytes))


TensorReader = SafetensorsReader | PthReader


def open_reader(where: Path) -> TensorReader:
    """The reader for the folder or file `where`. In a folder `.pth` and `.pt` files are ignored."""
    return PthReader(where) if where.suffix in (".pth", ".pt") else SafetensorsReader(where)
