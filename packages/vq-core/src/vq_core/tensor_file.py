"""Reading and writing one safetensors file: headers without data, atomic writes, and refusals that name the file."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
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
"""Safetensors' names."""
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


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


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` to the safetensors file `path`; it appears whole and on the disk, or not at all.

    The same tensors always give the same bytes.

    Raises:
        OSError: the disk is full, or `path` may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, temporary, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library reports a full disk as text; as an OSError again, it is told like any other.
        if code := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
        raise
    publish(temporary, path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`; it appears whole and on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
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
