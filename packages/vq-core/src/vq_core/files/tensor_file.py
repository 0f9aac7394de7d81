"""Reading and writing one safetensors file: headers without data, atomic writes, and refusals that name the file."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, takewhile
from math import prod
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.given_file import require_file
from vq_core.files.json_file import parse_json

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
PARSED_HEADERS = 64  # kept: Wan's largest model has 40 blocks, each a file of LightX2V's
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


DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_OTHER_BITS = {"F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "U16": 16, "U32": 32, "U64": 64, "C64": 64}
_OTHER_BITS |= {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS = {name: 8 * dtype.itemsize for name, dtype in DTYPES.items()} | _OTHER_BITS
"""Bits per element of every dtype that a file may have; only those of `DTYPES` are read."""


class TensorInfo(NamedTuple):
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


class Header(NamedTuple):
    """What comes before the data of a file.

    Attributes:
        raw: its bytes.
        tensors: where each tensor lies.
        metadata: what the writer has noted.
        end: where the data end, and the file.
    """

    raw: bytes
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    end: int


def header_bytes(descriptor: int) -> bytes:
    """The bytes of an open file before its data, without any check; of a header that is too long only its length."""
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    return os.pread(descriptor, 8 + length if length <= MAX_HEADER_BYTES else 8, 0)


@contextmanager
def open_header(path: Path) -> Iterator[tuple[int, Header]]:
    """The descriptor of the safetensors file `path`, opened, and its header, which is valid.

    Raises:
        VqError: the file is missing, truncated, or refused by the safetensors library or as strictly.
    """
    try:
        require_file(path)
        file = path.open("rb")
    except FileNotFoundError:
        raise VqError(f"{path} is missing: get it again or check the folder.") from None
    with file:
        try:
            raw = header_bytes(file.fileno())
        except OSError as error:
            error.filename = str(path)  # which a failed read does not say
            raise
        try:
            header = _parse_header(raw)
        except ValueError as error:
            raise VqError(
                f"{path} is not a safetensors file, or its header is damaged ({error}): get it again."
            ) from None
        size = os.fstat(file.fileno()).st_size
        if size != header.end:
            raise VqError(
                f"{path} has {size} bytes where its header promises {header.end}, so it is truncated or damaged: "
                "get it again."
            )
        yield file.fileno(), header


# A model's linears are read one by one, and its header may be a thousand times as long as what is read of it.
@lru_cache(PARSED_HEADERS)
def _parse_header(raw: bytes) -> Header:
    """The header in `raw`, which must be one that the safetensors library accepts; not to be changed.

    Raises:
        ValueError: it is not.
    """
    if len(raw) != 8 + int.from_bytes(raw[:8], "little") or raw[8:9] != b"{":
        raise ValueError("the header is cut off or does not begin with `{`")
    content = parse_json(raw[8:])
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("`__metadata__` holds more than strings")
    start = len(raw)
    tensors = {name: _parse_info(name, entry, start) for name, entry in content.items()}
    end = start
    for name, info in sorted(tensors.items(), key=lambda item: item[1][2:]):
        size = info.end - info.begin
        # The library computes with 64 bits: sizes before a zero may overflow too.
        overflows = size == 0 and prod(takewhile(bool, info.shape)) >= 1 << 64
        if info.begin != end or 8 * size != prod(info.shape) * BITS[info.dtype] or overflows:
            raise ValueError(
                f"`{name}`, {info.dtype} {list(info.shape)}, cannot be bytes {info.begin} to {info.end}: "
                f"what is before it ends at {end}"
            )
        end = info.end
    return Header(raw, tensors, metadata, end)


def _parse_info(name: str, entry: Any, start: int) -> TensorInfo:
    if isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if isinstance(dtype, str) and dtype in BITS and _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2:
            return TensorInfo(dtype, tuple(shape), start + offsets[0], start + offsets[1])
    raise ValueError(f"`{name}` does not consist of a valid dtype, shape and data_offsets")


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and {*map(type, value)} <= {int} and min(value, default=0) >= 0


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors in the safetensors file `path`, by name; refuses what `open_header` does."""
    with open_header(path) as (_, header):
        return dict(header.tensors)


def read_metadata(path: Path) -> dict[str, str]:
    """What the writer of the safetensors file `path` has noted in its header; refuses what `open_header` does."""
    with open_header(path) as (_, header):
        return dict(header.metadata)


def load_tensors(path: Path, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
    """The tensors `names` of the safetensors file `path`, mapped into memory: what is not looked at is not read.

    Raises:
        VqError: see `open_header`; the file lacks one of them, or one has a dtype that is not read.
    """
    with open_header(path) as (descriptor, header):
        content = np.frombuffer(mmap(descriptor, 0, access=ACCESS_COPY), np.uint8)
    loaded = {}
    for name in names:
        info = readable(path, header.tensors, name)
        loaded[name] = tensor_of(info, torch.from_numpy(content[info.begin : info.end])).to(device)
    return loaded


def readable(path: Path, tensors: Mapping[str, TensorInfo], name: str) -> TensorInfo:
    """Where the tensor `name` lies in the file `path`, which holds `tensors`.

    Raises:
        VqError: it is not there, or has a dtype that is not read.
    """
    if name not in tensors:
        raise VqError(f"{path} has no tensor `{name}`: get it again.")
    if tensors[name].dtype not in DTYPES:
        raise VqError(f"`{name}` in {path} is {tensors[name].dtype}, which is not read here: get it in another format.")
    return tensors[name]


def tensor_of(info: TensorInfo, content: Tensor) -> Tensor:
    """The tensor that `info` describes, in the memory of its `content`, uint8 `[bytes]`."""
    return content.view(DTYPES[info.dtype]).reshape(info.shape)


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
    """Hexadecimal SHA-256 of the file `path`.

    Raises:
        VqError: it is missing or no file.
    """
    try:
        require_file(path)
    except FileNotFoundError:
        raise VqError(f"{path} is missing: get it again or check the folder.") from None
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
