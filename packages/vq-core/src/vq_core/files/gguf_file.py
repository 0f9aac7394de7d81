"""A GGUF file with a model's weights, dequantized as they are read.

The package `gguf`, an optional one, knows the quantized types. Its reader is not used: it walks arrays whose length a
damaged file says without end, and maps the whole file.
"""

import os
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorInfo, tensor_of
from vq_core.files.weights_file import changed, identity

if TYPE_CHECKING:
    pass

SUFFIX = ".gguf"
MAX_NAME, MAX_RANK, MAX_ENTRIES = 1 << 16, 8, 1 << 20
PIECE_BYTES = 16 << 20  # of dequantized values
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by GGUF's number of its type; besides there are strings and arrays."""
_UINT32, _INT32, _STRING, _ARRAY = 4, 5, 8, 9
_PLAIN = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F64"}
"""Types that are read as they are, with safetensors' names."""
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


class GgufFile:
    """The tensors of a GGUF file: fp32 where they are quantized, as they are where they are not."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            VqError: the package `gguf` is not installed, or the file is missing, damaged, or has types that it does not
                dequantize.
        """
        try:
            from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        except ImportError:
            raise VqError(
                f"{path} is a GGUF file, which another package reads: `pip install 'vq-core[gguf]'`, or give the "
                "model as safetensors."
            ) from None
        self.path = path
        self.types: dict[str, GGMLQuantizationType] = {}
        """What each tensor is stored as."""
        self._row_bytes: dict[str, int] = {}
        try:
            with path.open("rb") as file:
                self._identity = identity(file.fileno())
                header = _Header(file)
        except FileNotFoundError:
            raise VqError(f"{path} is missing: get it again or check the folder.") from None
        except (ValueError, struct.error) as error:
            raise VqError(f"{path} is not a GGUF file, or it is damaged ({error}): get it again.") from None
        infos: dict[str, TensorInfo] = {}
        for name, (shape, number, begin) in header.tensors.items():
            try:
                kind = GGMLQuantizationType(number)
            except ValueError:
                raise VqError(
                    f"`{name}` in {path} has GGUF's type {number}, which is not known: get another."
                ) from None
            block, size = GGML_QUANT_SIZES[kind]
            end = begin + prod(shape) // block * size
            if not prod(shape) or not shape or shape[-1] % block or end > header.file_size:
                raise VqError(f"`{name}` in the GGUF file {path} is {list(shape)} and does not fit it: get it again.")
            self.types[name] = kind
            self._row_bytes[name] = shape[-1] // block * size
            infos[name] = TensorInfo(_PLAIN.get(kind.name, "F32"), header.shape_of(name, shape), begin, end)
        self.infos: Mapping[str, TensorInfo] = infos

    def load(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`, on `device`.

        Raises:
            VqError: the file has changed since it was opened, lacks a tensor, or has a type that is not dequantized.
        """
        return {name: self._tensor(name).to(device) for name in names}

    def ends(self, name: str, size: int) -> tuple[bytes, bytes]:
        """The first and the last `size` bytes of what is stored of the tensor `name`."""
        info = self.infos[name]
        length = min(size, info.end - info.begin)
        return self._read(info.begin, length), self._read(info.end - length, length)

    def _tensor(self, name: str) -> Tensor:
        if name not in self.infos:
            raise VqError(f"{self.path} has no tensor `{name}`: get it again.")
        info, kind = self.infos[name], self.types[name]
        content = self._read(info.begin, info.end - info.begin)
        if kind.name in _PLAIN:
            return tensor_of(info, torch.frombuffer(bytearray(content), dtype=torch.uint8))
        from gguf.quants import dequantize

        rows = np.frombuffer(content, np.uint8).reshape(-1, self._row_bytes[name])
        values = torch.empty(len(rows), prod(info.shape) // len(rows))
        step = max(1, PIECE_BYTES // values[0].nbytes)
        try:
            for begin in range(0, len(rows), step):
                values[begin : begin + step] = torch.from_numpy(dequantize(rows[begin : begin + step], kind))
        except NotImplementedError:
            raise VqError(
                f"`{name}` in {self.path} is {kind.name}, which the package gguf does not dequantize: get another."
            ) from None
        return values.reshape(info.shape)

    def _read(self, begin: int, length: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                if identity(file.fileno()) != self._identity:
                    raise changed(self.path)
                file.seek(begin)
                content = file.read(length)
                if len(content) < length or identity(file.fileno()) != self._identity:
                    raise changed(self.path)
                return content
        except FileNotFoundError:
            raise changed(self.path) from None


class _Header:
    """What a GGUF file says of itself: `tensors` by name, with shape, GGUF's number of the type, and where each begins.

    Raises:
        ValueError: it is no such file, or ends too early.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.file_size = os.fstat(file.fileno()).st_size
        self._original: dict[str, tuple[int, ...]] = {}
        if file.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, tensors, entries = self._numbers("<IQQ")
        if version not in (2, 3) or max(tensors, entries) > MAX_ENTRIES:
            raise ValueError(f"version {version} with {tensors} tensors and {entries} entries is not known")
        alignment = 32
        for _ in range(entries):
            name = self._text()
            value = self._value(*self._numbers("<I"))
            if name == "general.alignment":
                alignment = value[0] if value else 0
            elif name.startswith(_ORIGINAL_SHAPE):
                self._original[name.removeprefix(_ORIGINAL_SHAPE)] = value
        found = [self._tensor() for _ in range(tensors)]
        if not found or alignment < 1:
            raise ValueError("it holds no tensors" if not found else f"its alignment is {alignment}")
        start = -(-file.tell() // alignment) * alignment
        self.tensors = {name: (shape, number, start + offset) for name, shape, number, offset in found}
        if len(self.tensors) < len(found):
            raise ValueError("a tensor is there twice")

    def shape_of(self, name: str, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the tensor `name` before it was `stored` with fewer dimensions, where the file says it."""
        original = self._original.get(name, stored)
        return original if prod(original) == prod(stored) and min(original) > 0 else stored

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        (rank,) = self._numbers("<I")
        if rank > MAX_RANK:
            raise ValueError(f"`{name}` has {rank} dimensions")
        shape = tuple(reversed(self._numbers(f"<{rank}Q")))
        number, offset = self._numbers("<IQ")
        return name, shape, number, offset

    def _value(self, kind: int) -> tuple[int, ...]:
        """A value of the type `kind`, past which it reads; its numbers where it is 32-bit integers, else nothing."""
        if kind == _STRING:
            self._skip(*self._numbers("<Q"))
            return ()
        inner, count = self._numbers("<IQ") if kind == _ARRAY else (kind, 1)
        if inner == _STRING:
            if count > MAX_ENTRIES:
                raise ValueError(f"a list has {count} entries")
            for _ in range(count):
                self._skip(*self._numbers("<Q"))
            return ()
        if inner not in _SIZES:
            raise ValueError(f"a value of type {inner} is not known")
        if inner in (_UINT32, _INT32) and count <= MAX_RANK:
            return self._numbers(f"<{count}{'I' if inner == _UINT32 else 'i'}")
        self._skip(count * _SIZES[inner])
        return ()

    def _text(self) -> str:
        (length,) = self._numbers("<Q")
        if length > MAX_NAME:
            raise ValueError(f"a name has {length} bytes")
        return self._file.read(length).decode()

    def _numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._file.read(struct.calcsize(layout)))

    def _skip(self, length: int) -> None:
        if self._file.tell() + length > self.file_size:
            raise ValueError("it ends within its header")
        self._file.seek(length, os.SEEK_CUR)
