"""Where the tensors of a folder lie; what a checkpoint's folder may lack is tested in `test_source.py`."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.files.tensor_folder import INDEX_FILE, index_tensors, stem_of


def test_without_an_index_every_file_counts(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3)}, tmp_path / "one.safetensors")
    save_file({"b": torch.ones(4).half()}, tmp_path / "two.safetensors")
    files = index_tensors(tmp_path)
    assert {name: file.path.name for name, file in files.items()} == {"a": "one.safetensors", "b": "two.safetensors"}
    assert {name: (file.infos[name].dtype, file.infos[name].shape) for name, file in files.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (4,)),
    }


def test_with_an_index_only_what_it_names_counts(tmp_path: Path) -> None:
    for name in ("one", "two", "old"):
        save_file({name: torch.ones(1), "shared": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    weight_map = {"one": "one.safetensors", "two": "two.safetensors", "shared": "two.safetensors"}
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    assert {name: file.path.name for name, file in index_tensors(tmp_path).items()} == weight_map


@pytest.mark.parametrize(
    ("weight_map", "sentence"),
    [
        ({}, "has no weight_map"),
        (["a"], "has no weight_map"),
        ({"a": "a.safetensors"}, "is missing"),
        ({"a": "../a.safetensors"}, r"says that `a` is in '\.\./a\.safetensors', which is no file beside it"),
        ({"a": "/a.safetensors"}, "which is no file beside it"),
        ({"a": 1}, "which is no file beside it"),
        ({"a": ["a.safetensors"]}, "which is no file beside it"),
    ],
)
def test_an_index_that_promises_nothing_or_too_much(tmp_path: Path, weight_map: object, sentence: str) -> None:
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(VqError, match=sentence):
        index_tensors(tmp_path)


def test_a_folder_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="holds no safetensors file"):
        index_tensors(tmp_path)


def test_files_that_the_index_does_not_name_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "old"):
        save_file({"a": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    index_tensors(tmp_path)
    assert "the index does not name old.safetensors, and the model is read without" in caplog.text


def test_two_files_with_one_tensor(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(
        VqError, match=r"`a` is in one\.safetensors and in two\.safetensors of .*: give the file that you"
    ):
        index_tensors(tmp_path)


@pytest.mark.parametrize("name", ["x.safetensors", "x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors"])
def test_shards_share_a_stem(name: str) -> None:
    assert stem_of(Path(name)) == "x"
