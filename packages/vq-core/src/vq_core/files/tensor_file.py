"""Reading and writing one safetensors file: headers without data, atomic writes, and refusals that name the file."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vq_core.errors import VqError

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
HASHED_BESIDE = 1 << 20  # bytes from which hashing takes longer than handing it to a thread
DTYPE_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""Safetensors' names; in a file, the tensors of a later one come first, so that all are aligned."""
_DTYPE_ORDER = {dtype: place for place, dtype in enumerate(DTYPE_NAMES)}
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: safetensors' name of its dtype, shape, and its byte range in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorSpec(NamedTuple):
    """What a tensor of a file is to be."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.dtype.itemsize * prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors in the safetensors file `path`, by name.

    Raises:
        VqError: the file is missing, truncated, or not safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if length <= MAX_HEADER_BYTES else b""
        size = path.stat().st_size
    except FileNotFoundError:
        raise VqError(f"{path} is missing: get it again or check the folder.") from None
    try:
        entries = json.loads(raw)
        entries.pop("__metadata__", None)
        start = 8 + length
        infos = {
            name: TensorInfo(
                entry["dtype"],
                tuple(entry["shape"]),
                start + entry["data_offsets"][0],
                start + entry["data_offsets"][1],
            )
            for name, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        raise VqError(f"{path} is not a safetensors file, or its header is damaged: get it again.") from None
    needed = max((info.end for info in infos.values()), default=start)
    if size != needed:
        raise VqError(
            f"{path} has {size} bytes where its header promises {needed}, so it is truncated or damaged: get it again."
        )
    return infos


def read_metadata(path: Path) -> dict[str, str]:
    """What the writer of the safetensors file `path` has noted in its header.

    Raises:
        VqError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, FileNotFoundError) as error:
        raise VqError(f"{path} cannot be read ({error}): get it again.") from None


def load_tensors(path: Path, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
    """The tensors `names` of the safetensors file `path`.

    Raises:
        VqError: the file cannot be read or lacks one of them.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, FileNotFoundError) as error:
        raise VqError(f"{path} cannot be read ({error}): get it again or make it again.") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write `tensors` to the safetensors file `path`; it appears whole and on the disk, or not at all.

    The same tensors and metadata always give the same bytes: those of the library, but for the order of the metadata,
    which it leaves to chance.

    Returns:
        The SHA-256 of the file.

    Raises:
        OSError: the disk is full, or `path` may not be written.
    """
    digest = draft_tensors(path, tensors, metadata)
    publish_draft(path)
    return digest


def draft_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write what `write_tensors` does, but leave it to `publish_draft` to flush it and to call it `path`.

    Returns:
        The SHA-256 of the file, computed as it is written.

    Raises:
        OSError: the disk is full, or `path` may not be written.
    """
    specs = {name: TensorSpec(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    header, begins = header_of(specs, metadata or {})
    contents: Iterable[bytes | memoryview] = chain([header], (bytes_of(tensors[name]) for name in begins))
    digest = hashlib.sha256()
    with _draft(path) as file, ThreadPoolExecutor(1) as beside:
        for content in contents:
            if len(content) < HASHED_BESIDE:
                digest.update(content)
                file.write(content)
            else:
                hashed = beside.submit(digest.update, content)
                file.write(content)
                hashed.result()
    return digest.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`; it appears whole and on the disk, or not at all."""
    with new_file(path) as file:
        file.write(content)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of the file `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def header_of(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """What comes before the data of a file, and where in the file each tensor begins, in their order there."""
    header: dict[str, object] = {"__metadata__": dict(sorted({"format": "pt", **metadata}.items()))}
    offsets: dict[str, int] = {}
    end = 0
    for name, spec in sorted(specs.items(), key=lambda item: (-_DTYPE_ORDER[item[1].dtype], item[0])):
        offsets[name] = end
        end += spec.nbytes
        header[name] = {
            "dtype": DTYPE_NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offsets[name], end],
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the data are aligned
    start = 8 + len(encoded)
    return len(encoded).to_bytes(8, "little") + encoded, {name: start + offset for name, offset in offsets.items()}


def bytes_of(tensor: Tensor) -> memoryview:
    """The elements of `tensor` as they lie in a file."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` when the block ends without an error."""
    with _draft(path) as file:
        yield file
    publish_draft(path)


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _draft_of(path).open("wb") as file:
            yield file
    except OSError as error:
        # A write that fails does not say where.
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error


def publish_draft(path: Path) -> None:
    """Flush to the disk what was drafted of `path`, and give it that name."""
    publish(_draft_of(path), path)


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def publish(temporary: Path, path: Path) -> None:
    """Flush `temporary` to the disk and give it its final name, so that the name implies complete content."""
    sync(temporary)
    temporary.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
