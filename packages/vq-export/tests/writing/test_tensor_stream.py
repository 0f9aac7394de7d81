"""Streamed files, read back by the safetensors library and compared byte by byte with what it writes itself."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.files.tensor_file import DTYPE_NAMES, TensorSpec, read_header, read_metadata
from vq_export.writing.tensor_stream import stream_tensors


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        f"{name}.weight": (20 * torch.randn(3, 5, generator=generator)).to(dtype) for dtype, name in DTYPE_NAMES.items()
    }
    return made | {"scalar": torch.tensor(2.5), "vector": torch.arange(7, dtype=torch.uint8), "empty": torch.ones(0, 4)}


def specs_of(tensors: dict[str, Tensor]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    with stream_tensors(path, specs_of(tensors), {}) as stream:
        for name, tensor in tensors.items():
            stream.append(name, tensor)
    return path


def test_is_the_file_that_the_library_writes(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    ours = written(tmp_path / "ours.safetensors", tensors)
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert ours.read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    for name, info in read_header(ours).items():
        assert info.begin % tensors[name].dtype.itemsize == 0, name


def test_order_pieces_and_threads_do_not_matter(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.safetensors", tensors)
    with stream_tensors(tmp_path / "pieces.safetensors", specs_of(tensors), {}) as stream:
        for row in range(3):
            for name in reversed([name for name in tensors if name.endswith(".weight")]):
                stream.append(name, tensors[name][row : row + 1])
        for name in ("vector", "scalar"):
            stream.append(name, tensors[name])
    assert (tmp_path / "pieces.safetensors").read_bytes() == whole.read_bytes()

    path = tmp_path / "threads.safetensors"
    with stream_tensors(path, specs_of(tensors), {}) as stream, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: stream.append(name, tensors[name]), tensors))
    assert path.read_bytes() == whole.read_bytes()


def test_a_transposed_piece_is_written_as_it_reads(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3).T
    written(tmp_path / "a.safetensors", {"matrix": matrix})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["matrix"], matrix)


def test_the_file_appears_at_the_end_with_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.safetensors"
    with stream_tensors(path, {"a": TensorSpec(torch.int8, (1,))}, {"model": "Wän"}) as stream:
        stream.append("a", torch.ones(1, dtype=torch.int8))
        assert not path.exists()
    assert read_metadata(path) == {"format": "pt", "model": "Wän"}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "piece", "message"),
    [
        ("b", torch.ones(2, 3), "`b` was not declared"),
        ("a", torch.ones(2, 3, dtype=torch.float64), r"a piece torch.float64 \[2, 3\] of `a` does not fit"),
        ("a", torch.ones(2, 2), "does not fit"),
        ("a", torch.ones(3, 3), "does not fit"),
        ("a", torch.ones(1, 3), r"`a` is incomplete \(1 such tensors\)"),
    ],
)
def test_what_was_not_declared_is_refused_and_leaves_no_file(
    name: str, piece: Tensor, message: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(ValueError, match=message),
        stream_tensors(tmp_path / "a.safetensors", {"a": TensorSpec(torch.float32, (2, 3))}, {}) as stream,
    ):
        stream.append(name, piece)
    assert not (tmp_path / "a.safetensors").exists()
