"""GGUF is read tensor by tensor; a damaged or hostile file is a sentence at once."""

import os
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vq_core.errors import VqError
from vq_core.files.gguf_file import GgufFile

TENSORS = {
    "wide": np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32),
    "bias": np.arange(5, dtype=np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "patches": np.random.default_rng(1).normal(size=(4, 2, 1, 2, 2)).astype(np.float32),
}


def write(path: Path, quantized: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0) -> Path:
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_uint32("general.file_type", 7)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
    writer.add_array("comfy.gguf.orig_shape.bias", [1, 5])
    for name, tensor in TENSORS.items():
        if name == "wide":
            writer.add_tensor(name, gguf.quants.quantize(tensor, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("quantized", ["Q8_0", "Q4_0", "Q5_1", "BF16"])
def test_reads_what_the_package_dequantizes(tmp_path: Path, quantized: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vq_core.files.gguf_file.PIECE_BYTES", 600)  # two rows and a bit
    kind = gguf.GGMLQuantizationType[quantized]
    file = GgufFile(write(tmp_path / "x.gguf", kind))
    loaded = file.load(TENSORS)
    expected = gguf.quants.dequantize(gguf.quants.quantize(TENSORS["wide"], kind), kind)
    assert np.array_equal(loaded["wide"].float().numpy(), expected)
    assert loaded["wide"].dtype == (torch.bfloat16 if quantized == "BF16" else torch.float32)
    assert torch.equal(loaded["bias"], torch.from_numpy(TENSORS["bias"]).reshape(1, 5))
    assert torch.equal(loaded["half"], torch.from_numpy(TENSORS["half"]))
    assert torch.equal(loaded["patches"], torch.from_numpy(TENSORS["patches"]))
    assert {name: info.shape for name, info in file.infos.items()} == {
        "wide": (6, 64), "bias": (1, 5), "half": (2, 3), "patches": (4, 2, 1, 2, 2)
    }  # fmt: skip
    assert file.types["wide"] is kind


def test_ends_are_the_stored_bytes(tmp_path: Path) -> None:
    content = TENSORS["bias"].tobytes()
    assert GgufFile(write(tmp_path / "x.gguf")).ends("bias", 8) == (content[:8], content[-8:])
    assert GgufFile(tmp_path / "x.gguf").ends("bias", 4096) == (content, content)


def test_refuses_a_file_that_has_changed(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "x.gguf"))
    os.utime(file.path, ns=(0, 1))
    with pytest.raises(VqError, match=r"x\.gguf was changed or removed while it was being read"):
        file.load(["bias"])
    file.path.unlink()
    with pytest.raises(VqError, match=r"x\.gguf was changed or removed while it was being read"):
        file.load(["bias"])


def test_refuses_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"x\.gguf has no tensor `z`"):
        GgufFile(write(tmp_path / "x.gguf")).load(["z"])
    with pytest.raises(VqError, match=r"y\.gguf is missing"):
        GgufFile(tmp_path / "y.gguf")


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        VqError, match=r"x\.gguf is a GGUF file, .* `pip install 'vq-core\[gguf\]'`, or give the model as"
    ):
        GgufFile(tmp_path / "x.gguf")


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def header(tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0, name: str = "t") -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


HOSTILE = {
    "no magic": (b"GGML" + bytes(60), r"is not a GGUF file, or it is damaged \(it does not begin with GGUF\)"),
    "cut off": (header()[:10], "is not a GGUF file, or it is damaged"),
    "empty": (header() + bytes(64), "it holds no tensors"),
    "old": (header(version=1), "version 1 with 0 tensors"),
    "turned": (header(version=3 << 24), "version 50331648"),
    "many": (header(tensors=1 << 60), "tensors and 0 entries is not known"),
    "endless list": (header(entries=1) + text("k") + struct.pack("<IIQ", 9, 4, 1 << 60), "it ends within its header"),
    "endless strings": (header(entries=1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 60), "a list has"),
    "strings beyond the end": (header(entries=1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 19), "is damaged"),
    "long string": (header(entries=1) + text("k") + struct.pack("<IQ", 8, 1 << 62), "it ends within its header"),
    "nested lists": (header(entries=1) + text("k") + struct.pack("<IIQ", 9, 9, 1), "a value of type 9 is not known"),
    "long name": (header(tensors=1) + struct.pack("<Q", 1 << 62), "a name has"),
    "no text": (header(tensors=1) + struct.pack("<Q", 2) + b"\xff\xff" + bytes(30), "is damaged"),
    "many dimensions": (header(tensors=1) + text("t") + struct.pack("<I", 1 << 30), "has 1073741824 dimensions"),
    "large": (header(tensors=1) + tensor((1 << 40,)) + bytes(64), r"`t` in the GGUF file \S+ is \[1099511627776\]"),
    "far away": (header(tensors=1) + tensor((8,), offset=1 << 60) + bytes(64), "does not fit it"),
    "half a block": (header(tensors=1) + tensor((31,), kind=8) + bytes(64), "does not fit it"),
    "nothing": (header(tensors=1) + tensor((0, 4)) + bytes(64), "does not fit it"),
    "no dimension": (header(tensors=1) + tensor(()) + bytes(64), "does not fit it"),
    "twice": (header(tensors=2) + 2 * tensor((4,)) + bytes(64), "a tensor is there twice"),
    "strange type": (header(tensors=1) + tensor((4,), kind=999) + bytes(64), "has GGUF's type 999, which is not known"),
    "no alignment": (
        header(1, 1) + text("general.alignment") + struct.pack("<II", 4, 0) + tensor((4,)) + bytes(64),
        "its alignment is 0",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), HOSTILE.values(), ids=HOSTILE.keys())
def test_refuses_a_damaged_file(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(VqError, match=sentence):
        GgufFile(tmp_path / "x.gguf")


def test_refuses_a_type_that_the_package_does_not_dequantize(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(header(tensors=1) + tensor((256,), kind=15) + bytes(1024))
    with pytest.raises(VqError, match=r"`t` in \S+x\.gguf is Q8_K, which the package gguf does not dequantize"):
        GgufFile(tmp_path / "x.gguf").load(["t"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(whole(tmp_path_factory))
    content[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("flipped") / "x.gguf"
    path.write_bytes(content)
    try:
        file = GgufFile(path)
        file.load(file.infos)
    except VqError:
        pass


_WHOLE: list[bytes] = []


def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if not _WHOLE:
        _WHOLE.append(write(tmp_path_factory.mktemp("whole") / "x.gguf").read_bytes())
    return _WHOLE[0]
