"""A file is read as it was opened, or refused; what was read is nobody else's memory."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vq_core.errors import VqError
from vq_core.files import weights_file
from vq_core.files.tensor_file import load_tensors
from vq_core.files.weights_file import SafetensorsFile

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4),
    "b": torch.randn(5).bfloat16(),
    "codes": torch.tensor([[-128, 127]], dtype=torch.int8),
    "fp8": torch.tensor([0.5, -448.0]).to(torch.float8_e4m3fn),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("max_read", [3, weights_file.MAX_READ])
def test_reads_what_the_library_reads(path: Path, monkeypatch: pytest.MonkeyPatch, max_read: int) -> None:
    monkeypatch.setattr(weights_file, "MAX_READ", max_read)  # several reads to a tensor
    theirs = load_file(path)
    for ours in (SafetensorsFile(path).load(TENSORS), load_tensors(path, TENSORS)):
        assert list(ours) == list(TENSORS)
        for name, tensor in ours.items():
            assert (tensor.dtype, tensor.shape) == (theirs[name].dtype, theirs[name].shape)
            assert torch.equal(tensor.reshape(-1).view(torch.uint8), theirs[name].reshape(-1).view(torch.uint8))


def test_the_ends_of_a_tensor(path: Path) -> None:
    file = SafetensorsFile(path)
    assert file.ends("a", 8) == (
        torch.tensor([0.0, 1.0]).numpy().tobytes(),
        torch.tensor([10.0, 11.0]).numpy().tobytes(),
    )
    assert file.ends("codes", 4096) == (b"\x80\x7f", b"\x80\x7f")


def test_what_was_read_does_not_change_with_the_file(path: Path) -> None:
    read = SafetensorsFile(path).load(["a"])["a"]
    save_file({name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}, path)
    assert torch.equal(read, TENSORS["a"])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 1))


def replace(path: Path) -> None:
    """Another file with the same content and time, as a copy tool may leave it."""
    status = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.rename(path)


def other_header(path: Path) -> None:
    """Tensors renamed in place, with size and time as they were."""
    status, content = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(b'"codes"', b'"edocs"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [grow, touch, replace, other_header, Path.unlink])
def test_refuses_a_file_that_was_changed_since_it_was_opened(path: Path, change: Callable[[Path], None]) -> None:
    file = SafetensorsFile(path)
    change(path)
    for read in (lambda: file.load(["a"]), lambda: file.ends("a", 8)):
        with pytest.raises(VqError, match=r"x\.safetensors was changed or removed while it was being read"):
            read()


@pytest.mark.parametrize("change", [grow, lambda path: os.truncate(path, 64)])
def test_refuses_a_file_that_is_changed_in_the_middle_of_reading(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    file, read = SafetensorsFile(path), os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        change(path)
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(VqError, match="was changed or removed while it was being read"):
        file.load(["a"])
