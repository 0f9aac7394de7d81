"""Models at a URI: what of them is copied."""

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vq_core.errors import VqError
from vq_core.model.source import open_source


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
