"""A `.pth` file with a model's weights, only on request: `torch.load(weights_only=True)`, which runs no code."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeGuard
from zipfile import ZipFile

import torch
from isal import isal_zlib  # several times as fast as zlib
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.buffers import Buffers
from vq_core.files.given_file import require_file
from vq_core.files.tensor_file import DTYPE_NAMES, TensorInfo
from vq_core.files.weights_file import changed, identity

SUFFIXES = (".pth", ".pt", ".bin")
THREADS = 2  # one alone does not fill the memory bus
CHUNK_BYTES = 1 << 18  # fit in the cache of one core
Checksums = set[tuple[int, int]]
"""Size in bytes and CRC-32."""


class PthFile:
    """The tensors of a `.pth` file, mapped into memory: what is not looked at is not read."""

    def __init__(self, path: Path, buffers: Buffers | None = None) -> None:
        """Open `path`, to be read into `buffers`, which several files may share.

        Raises:
            VqError: it holds anything but tensors by name, or is damaged.
        """
        self.path = path
        self._buffers = buffers or Buffers()
        self._tensors = read_pth(path)
        self._checksums = checksums_of(path)
        self._sound: set[int] = set()  # addresses of memory that has been checked
        self._identity = self._present()
        self.infos: Mapping[str, TensorInfo] = {name: _info(tensor) for name, tensor in self._tensors.items()}

    def load(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`, on `device`, in memory of their own.

        Raises:
            VqError: the file has changed since it was opened, lacks one of them, or is damaged there.
        """
        self._require_unchanged()
        names = list(names)
        if lacking := [name for name in names if name not in self._tensors]:
            raise VqError(f"{self.path} has no tensor `{lacking[0]}`: get it again.")
        with ThreadPoolExecutor(THREADS) as pool:
            loaded = dict(zip(names, pool.map(partial(self._sound_copy, device=device), names), strict=True))
        self._require_unchanged()
        return loaded

    def ends(self, name: str, size: int) -> tuple[bytes, bytes]:
        """The first and the last `size` bytes of the tensor `name`, all of it where there are fewer."""
        content = self.load([name])[name].reshape(-1).view(torch.uint8).numpy()
        return content[:size].tobytes(), content[-size:].tobytes()

    def _sound_copy(self, name: str, device: str) -> Tensor:
        tensor, title = self._tensors[name], f"`{name}` in {self.path}"
        if tensor.nbytes < tensor.untyped_storage().nbytes():  # what many share is read as a whole once, to be checked
            if tensor.untyped_storage().data_ptr() not in self._sound:
                require_sound(tensor, self._checksums, title)
                self._sound.add(tensor.untyped_storage().data_ptr())
            return tensor.clone(memory_format=torch.contiguous_format).to(device)
        own = self._buffers.take(tensor.nbytes)
        require_sound(tensor, self._checksums, title, own)
        own = own.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        return own.contiguous().to(device)

    def _present(self) -> tuple[int, int, int]:
        try:
            with self.path.open("rb") as file:
                return identity(file.fileno())
        except FileNotFoundError:
            raise changed(self.path) from None

    def _require_unchanged(self) -> None:
        if self._present() != self._identity:
            raise changed(self.path)


def read_pth(path: Path) -> dict[str, Tensor]:
    """The tensors of the `.pth` file `path` by name, mapped into memory.

    Training tools put them one level down, beside what else they save: `state_dict`, `model`, `ema` and the like.

    Raises:
        VqError: it is missing or damaged, has several such levels or none, or a tensor that has no memory of its own.
    """
    try:
        require_file(path)
        # The one place where anything is unpickled: Wan-AI publishes some weights in no other form, and who wants to
        # read them says so. Limited to weights, the loader makes tensors and containers and refuses everything else.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # noqa: TID251
    except FileNotFoundError:
        raise VqError(f"{path} is missing: get it again or check the folder.") from None
    except Exception as error:  # noqa: BLE001 - what a damaged pickle makes the loader raise is not limited
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise VqError(
            f"{path} cannot be read as plain weights ({reason}): convert it to safetensors with the tool that wrote it."
        ) from None
    tensors = _tensors_in(content, path)
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise VqError(
                f"`{name}` in {path} is no whole tensor: convert it to safetensors with the tool that wrote it."
            )
    return tensors


def checksums_of(path: Path) -> Checksums:
    """The checksums that are noted in the `.pth` file `path`, a ZIP file with a member for each tensor's memory."""
    with ZipFile(path) as members:
        return {(member.file_size, member.CRC) for member in members.infolist()}


def require_sound(tensor: Tensor, checksums: Checksums, name: str, copy: Tensor | None = None) -> None:
    """Refuse a tensor whose memory has none of the `checksums` of its file; torch's loader compares none.

    Its memory is copied into `copy`, uint8, on the way, while it is in the processor's cache.

    Raises:
        VqError: says that `name` is damaged.
    """
    content = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    checksum = 0
    for begin in range(0, content.nbytes, CHUNK_BYTES):
        chunk = content[begin : begin + CHUNK_BYTES].numpy()
        if copy is not None:
            copy.numpy()[begin : begin + CHUNK_BYTES] = chunk
        checksum = isal_zlib.crc32(chunk.data, checksum)
    if (content.nbytes, checksum) not in checksums:
        raise VqError(f"{name} is damaged (its checksum differs): get it again.")


def _tensors_in(content: object, path: Path) -> dict[str, Tensor]:
    if _is_tensors(content):
        return content
    entries: dict[object, object] = content if isinstance(content, dict) else {}
    levels = {key: it for key, it in entries.items() if _is_tensors(it) and it}
    if len(levels) == 1 and not any(isinstance(value, Tensor) for value in entries.values()):
        return next(iter(levels.values()))
    if len(levels) > 1:
        raise VqError(
            f"{path} holds several sets of weights ({', '.join(map(str, levels))}): save the one that you mean alone."
        )
    raise VqError(f"{path} holds more than tensors by name: convert it to safetensors with the tool that wrote it.")


def _is_tensors(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )


def _info(tensor: Tensor) -> TensorInfo:
    """Dtype and shape; bytes are counted from the tensor's own beginning."""
    return TensorInfo(DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), 0, tensor.nbytes)
