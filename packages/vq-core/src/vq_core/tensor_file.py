"""Reading and writing one safetensors file: headers without data, atomic writes, and refusals that name the file."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vq_core.errors import VqError

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
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


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: safetensors' name of its dtype, shape, and its byte range in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


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
        The SHA-256 of the file, computed as it is written.

    Raises:
        OSError: the disk is full, or `path` may not be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-_DTYPE_ORDER[item[1].dtype], item[0]))
    header: dict[str, object] = {"__metadata__": dict(sorted({"format": "pt", **(metadata or {})}.items()))}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the data are aligned
    start = [len(encoded).to_bytes(8, "little"), encoded]
    contents: Iterable[bytes | memoryview] = chain(start, (_bytes_of(tensor) for _, tensor in ordered))
    digest = hashlib.sha256()
    with _new_file(path) as file, ThreadPoolExecutor(1) as beside:
        for content in contents:
            hashed = beside.submit(digest.update, content)
            file.write(content)
            hashed.result()
    return digest.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`; it appears whole and on the disk, or not at all."""
    with _new_file(path) as file:
        file.write(content)


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
    except OSError as error:
        # A write that fails does not say where.
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
    publish(temporary, path)


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
