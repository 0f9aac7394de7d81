"""Readers give every tensor as the libraries do, in pieces that never exceed their size."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorSpec
from vq_export.encoders import readers
from vq_export.encoders.readers import PthReader, SafetensorsReader, open_reader


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.randn(37, 5, generator=generator),
        "half": torch.randn(9, 4, 3, generator=generator).half(),
        "vector": torch.randn(11, generator=generator).bfloat16(),
        "scalar": torch.tensor(2.5),
    }


@pytest.fixture(params=["folder", "safetensors", "pth"])
def where(request: pytest.FixtureRequest, tensors: dict[str, Tensor], tmp_path: Path) -> Path:
    if request.param == "pth":
        torch.save(tensors, tmp_path / "a.pth")
        return tmp_path / "a.pth"
    save_file(tensors, tmp_path / "a.safetensors")
    return tmp_path if request.param == "folder" else tmp_path / "a.safetensors"


@pytest.mark.parametrize("piece_bytes", [64, 64 << 20])
def test_pieces_make_up_the_tensor(
    where: Path, tensors: dict[str, Tensor], piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PIECE_BYTES", piece_bytes)
    reader = open_reader(where)
    assert reader.specs == {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in tensors.items()}
    for name, tensor in tensors.items():
        pieces = list(reader.pieces(name))
        assert torch.equal(torch.cat(pieces) if tensor.ndim else pieces[0], tensor), name
        assert all(piece.nbytes <= piece_bytes for piece in pieces)
    assert len(list(reader.pieces("matrix"))) == (13 if piece_bytes == 64 else 1)


def test_a_pth_file_is_read_only_where_it_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(VqError, match="holds no safetensors file"):
        open_reader(tmp_path)
    assert isinstance(open_reader(tmp_path / "a.pth"), PthReader)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(VqError, match=r"`x` is in a\.safetensors and in b\.safetensors .*give the file that you mean"):
        SafetensorsReader(tmp_path)
