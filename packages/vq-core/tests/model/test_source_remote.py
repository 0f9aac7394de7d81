"""Models at a URI: what of them is copied."""

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vq_core.errors import VqError
from vq_core.model.source import open_source, resolve_model
from vq_core.sampling.told_by_files import told_by


def put(memory: MemoryFileSystem, folder: Path, at: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            memory.pipe(f"{at}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_of_a_pipeline_at_a_uri_only_the_transformers_are_copied(memory: MemoryFileSystem, tiny_model: Any) -> None:
    put(memory, tiny_model("t2v"), "/model")
    source = open_source("memory://model")
    assert source.name == "memory://model"
    assert source.fingerprints == open_source(str(tiny_model("t2v"))).fingerprints
    others = {path.name for path in source.path.rglob("*") if path.is_file() and path.parent.name != "transformer"}
    assert others == {"model_index.json", "scheduler_config.json", "config.json"}


def test_a_transformer_at_a_uri(memory: MemoryFileSystem, tiny_model: Any) -> None:
    transformer = tiny_model("t2v") / "transformer"
    put(memory, transformer, "/wan/transformer")
    ours = open_source("memory://wan/transformer").fingerprints
    assert ours == open_source(str(transformer)).fingerprints
    with pytest.raises(VqError, match="There is nothing at memory://wan/no"):
        open_source("memory://wan/no")


@pytest.mark.parametrize("given", ["transformer_2", "transformer_2/diffusion_pytorch_model-00001-of-00002.safetensors"])
def test_what_is_said_beside_a_transformer_comes_with_it(memory: MemoryFileSystem, tiny_model: Any, given: str) -> None:
    put(memory, tiny_model("i2v-2.2"), "/wan/experts")
    path = resolve_model(f"memory://wan/experts/{given}")
    assert told_by(path) == told_by(tiny_model("i2v-2.2"))
    assert (path if path.is_dir() else path.parent).joinpath("config.json").is_file()


def test_a_file_alone_at_a_uri(memory: MemoryFileSystem, tiny_model: Any) -> None:
    memory.pipe("/bucket/x.safetensors", next((tiny_model("t2v") / "transformer").glob("*.safetensors")).read_bytes())
    memory.pipe("/bucket/other/config.json", b"{}")
    path = resolve_model("memory://bucket/x.safetensors")
    assert [it.name for it in path.parent.iterdir()] == ["x.safetensors"]
