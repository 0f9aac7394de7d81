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


class Harmful:
    """What a pickle could bring along."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run by unpickling",)


def test_a_pth_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Harmful()}, tmp_path / "a.pth")
    with pytest.raises(
        VqError, match=r"a\.pth cannot be read as plain weights \(Weights only load failed\): convert it"
    ):
        PthReader(tmp_path / "a.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": {"a": torch.ones(1)}}, "holds more than tensors by name"),
        ([torch.ones(1)], "holds more than tensors by name"),
        (b"hello", "cannot be read as plain weights"),
        (None, "is missing: get it again"),
    ],
)
def test_a_pth_file_without_plain_tensors_is_refused(content: object, sentence: str, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "a.pth")
    with pytest.raises(VqError, match=sentence):
        PthReader(tmp_path / "a.pth")


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(VqError, match=r"`x` is in a\.safetensors and in b\.safetensors .*remove the stale file"):
        SafetensorsReader(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(100)}, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-4])
    with pytest.raises(VqError, match="truncated or damaged"):
        SafetensorsReader(tmp_path)
