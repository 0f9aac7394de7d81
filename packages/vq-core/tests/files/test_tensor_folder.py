"""Where the tensors of a folder lie; what a checkpoint's folder may lack is tested in `test_source.py`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.files.tensor_folder import INDEX_FILE, index_tensors


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
        (["a.safetensors"], "has no weight_map"),
        ({"a": "a.safetensors"}, "is missing"),
        ({"a": 1}, r"says that `a` is in 1, which is not beside it: get it again"),
        ({"a": "../a.safetensors"}, r"says that `a` is in \.\./a\.safetensors, which is not beside it: get it again"),
        ({"a": "/a.safetensors"}, r"says that `a` is in /a\.safetensors, which is not beside it: get it again"),
    ],
)
def test_an_index_that_promises_nothing_or_too_much(tmp_path: Path, weight_map: Any, sentence: str) -> None:
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(VqError, match=sentence):
        index_tensors(tmp_path)


def test_a_folder_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="holds no safetensors file"):
        index_tensors(tmp_path)
