"""One file with a model's weights, opened: what is in it, and its tensors for as long as nobody changes it.

A model is read for minutes or hours. What is written must not be half of one file and half of another, so the file is
compared with the one that was opened before and after every read, and what was read is not the file's own memory.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.buffers import Buffers
from vq_core.files.tensor_file import TensorInfo, header_bytes, open_header, readable, tensor_of

MAX_READ = 1 << 30  # one call of the system reads less than 2 GiB


class WeightsFile(Protocol):
    """What a model's tensors are read from."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """What the file holds, by the names there."""

    def load(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`; refuses to read once the file is another one."""

    def ends(self, name: str, size: int) -> tuple[bytes, bytes]:
        """The first and the last `size` bytes of the tensor `name`, all of it where there are fewer."""


OpenWeights = Callable[[Path], WeightsFile]


class SafetensorsFile:
    """A safetensors file."""

    def __init__(self, path: Path, buffers: Buffers | None = None) -> None:
        """Open `path`, to be read into `buffers`, which several files may share.

        Raises:
            VqError: the file is missing, truncated, or not safetensors.
        """
        self.path = path
        self._buffers = buffers or Buffers()
        with open_header(path) as (descriptor, header):
            self.infos: Mapping[str, TensorInfo] = header.tensors
            self.metadata: Mapping[str, str] = header.metadata
            self._header = header.raw
            self._identity = identity(descriptor)

    def load(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`, on `device`.

        Raises:
            VqError: the file has changed since it was opened, lacks a tensor, or holds a dtype that torch does not.
        """
        with self._unchanged() as descriptor:
            return {name: self._tensor(descriptor, name).to(device) for name in names}

    def ends(self, name: str, size: int) -> tuple[bytes, bytes]:
        """The first and the last `size` bytes of the tensor `name`, all of it where there are fewer."""
        info = self.infos[name]
        length = min(size, info.end - info.begin)
        with self._unchanged() as descriptor:
            return os.pread(descriptor, length, info.begin), os.pread(descriptor, length, info.end - length)

    @contextmanager
    def _unchanged(self) -> Iterator[int]:
        """The open file, which is the same before and after as when it was first opened."""
        try:
            with self.path.open("rb") as file:
                descriptor = file.fileno()
                if identity(descriptor) != self._identity or header_bytes(descriptor) != self._header:
                    raise changed(self.path)
                yield descriptor
                if identity(descriptor) != self._identity:
                    raise changed(self.path)
        except FileNotFoundError:
            raise changed(self.path) from None

    def _tensor(self, descriptor: int, name: str) -> Tensor:
        info = readable(self.path, self.infos, name)
        buffer = self._buffers.take(info.end - info.begin)
        view, done = memoryview(buffer.numpy().data), 0
        while done < len(view):
            read = os.preadv(descriptor, [view[done : done + MAX_READ]], info.begin + done)
            if read == 0:  # it has become shorter
                raise changed(self.path)
            done += read
        return tensor_of(info, buffer)


def identity(descriptor: int) -> tuple[int, int, int]:
    """What tells a file from another one of its name: inode, size and time of the last change of its content."""
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns


def changed(path: Path) -> VqError:
    """The refusal of a file that is no longer the one that was opened."""
    return VqError(
        f"{path} was changed or removed while it was being read: let whatever writes there finish, and start again."
    )
