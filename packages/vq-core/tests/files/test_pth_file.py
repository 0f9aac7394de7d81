"""Weights in torch's own format: tensors by name, and no program."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vq_core.errors import VqError
from vq_core.files.pth_file import CHUNK_BYTES, PthFile

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4),
    "turned": torch.arange(6.0).reshape(2, 3).t(),
    "b": torch.randn(5).bfloat16(),
    "scalar": torch.tensor(2.5),
}


class Program:
    """Unpickled by the wrong loader, it runs what it likes."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save(TENSORS, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def test_reads_every_tensor_into_memory_of_its_own(path: Path) -> None:
    file = PthFile(path)
    assert {name: (info.dtype, info.shape) for name, info in file.infos.items()} == {
        "a": ("F32", (3, 4)),
        "turned": ("F32", (3, 2)),
        "b": ("BF16", (5,)),
        "scalar": ("F32", ()),
    }
    loaded = file.load(TENSORS)
    assert list(loaded) == list(TENSORS)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    assert loaded["turned"].is_contiguous()
    loaded["a"].zero_()
    assert torch.equal(file.load(["a"])["a"], TENSORS["a"])


def test_the_ends_of_a_tensor(path: Path) -> None:
    content = TENSORS["turned"].contiguous().numpy().tobytes()
    assert PthFile(path).ends("turned", 8) == (content[:8], content[-8:])
    assert PthFile(path).ends("scalar", 4096) == (TENSORS["scalar"].numpy().tobytes(),) * 2


def test_refuses_a_tensor_that_is_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(TENSORS["a"].numpy().tobytes())
    content[at + 5] ^= 1
    path.write_bytes(content)
    file = PthFile(path)
    assert torch.equal(file.load(["b"])["b"], TENSORS["b"])
    with pytest.raises(VqError, match=r"`a` in \S+x\.pth is damaged \(its checksum differs\): get it again"):
        file.load(["a"])


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    """Trainers that shard keep one flat tensor, and each parameter is a part of it."""
    flat = torch.arange(24.0)
    parts = {"a": flat[:12].reshape(3, 4), "b": flat[12:18].reshape(2, 3).t(), "none": flat[18:18], "flat": flat}
    torch.save(parts, tmp_path / "x.pth")
    loaded = PthFile(tmp_path / "x.pth").load(parts)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in parts.items())
    assert loaded["a"].untyped_storage().nbytes() == 48

    content = bytearray((tmp_path / "x.pth").read_bytes())
    content[content.index(flat.numpy().tobytes()) + 5] ^= 1
    (tmp_path / "x.pth").write_bytes(content)
    for name in parts:
        with pytest.raises(VqError, match=rf"`{name}` in \S+x\.pth is damaged"):
            PthFile(tmp_path / "x.pth").load([name])


def test_checks_a_tensor_of_many_chunks(tmp_path: Path) -> None:
    tensors = {"a": torch.randint(256, (2 * CHUNK_BYTES + 5,), dtype=torch.uint8)}
    torch.save(tensors, tmp_path / "x.pth")
    assert torch.equal(PthFile(tmp_path / "x.pth").load(["a"])["a"], tensors["a"])


def test_refuses_a_file_that_was_changed(path: Path) -> None:
    file = PthFile(path)
    os.utime(path, ns=(0, 1))
    with pytest.raises(VqError, match=r"x\.pth was changed or removed while it was being read"):
        file.load(["a"])
    path.unlink()
    with pytest.raises(VqError, match=r"x\.pth was changed or removed while it was being read"):
        file.ends("a", 8)


@pytest.mark.parametrize(
    "content", [[torch.ones(1)], {"a": 1}, {"a": {"b": TENSORS}}, {"a": TENSORS["a"], "b": TENSORS}, {1: TENSORS["a"]}]
)
def test_refuses_more_than_tensors_by_name(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(VqError, match=r"x\.pth holds more than tensors by name: convert it to safetensors"):
        PthFile(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"a": Program()}, path),
        lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False),  # as old versions wrote it
        lambda path: path.write_bytes(b"no weights"),
    ],
)
def test_refuses_what_is_not_plain_weights(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "x.pth")
    with pytest.raises(VqError, match=r"x\.pth cannot be read as plain weights .*: convert it to safetensors"):
        PthFile(tmp_path / "x.pth")
    with pytest.raises(VqError, match=r"y\.pth is missing"):
        PthFile(tmp_path / "y.pth")


def test_refuses_a_tensor_that_is_not_there(path: Path) -> None:
    with pytest.raises(VqError, match=r"x\.pth has no tensor `z`"):
        PthFile(path).load(["z"])


@pytest.mark.parametrize("level", ["state_dict", "model", "module", "ema", "generator"])
def test_tensors_one_level_down(tmp_path: Path, level: str) -> None:
    torch.save({level: TENSORS, "step": 3, "args": {"lr": 0.1}, "optimizer": {}}, tmp_path / "x.pt")
    loaded = PthFile(tmp_path / "x.pt").load(TENSORS)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())


def test_refuses_several_sets_of_weights(tmp_path: Path) -> None:
    torch.save({"model": TENSORS, "ema": TENSORS}, tmp_path / "x.pt")
    with pytest.raises(VqError, match=r"x\.pt holds several sets of weights \(model, ema\): save the one"):
        PthFile(tmp_path / "x.pt")


def test_refuses_a_tensor_that_is_larger_than_its_memory(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(1 << 40)}, tmp_path / "x.pth")
    with pytest.raises(VqError, match=r"`a` in \S+x\.pth is no whole tensor"):
        PthFile(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04" + bytes(50), b"\x80\x02}q\x00X\xff", b"cos\nsystem\n.", b"(lp0\n."]
)
def test_refuses_whatever_else_is_called_pth(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(VqError, match=r"x\.pth cannot be read as plain weights"):
        PthFile(tmp_path / "x.pth")
