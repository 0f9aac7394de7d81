import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from vq_core.artifacts.components import component_headers, headers_in
from vq_core.model.source import open_source
from vq_core.store.manifest import FILE_NAME
from vq_core.store.reader import open_artifact
from vq_core.store.writer import ComponentHeader, Header, create_artifact

RandomTensors = Callable[..., dict[str, Tensor]]


@pytest.fixture
def pipeline(
    tmp_path: Path,
    t2v_config: dict[str, Any],
    random_tensors: RandomTensors,
    write_transformer: Callable[..., Path],
) -> Path:
    """A pipeline folder with two transformers that differ in their weights."""
    names = ("transformer", "transformer_2")
    for seed, name in enumerate(names):
        write_transformer(tmp_path / "wan" / name, t2v_config, random_tensors(t2v_config, seed=seed))
    index = {name: ["diffusers", "WanTransformer3DModel"] for name in names}
    (tmp_path / "wan" / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"} | index))
    return tmp_path / "wan"


def test_every_transformer_has_its_own_header(pipeline: Path, t2v_config: dict[str, Any]) -> None:
    assert component_headers(open_source(str(pipeline))) == {
        name: ComponentHeader(name, open_source(str(pipeline / name)).fingerprints["transformer"], t2v_config)
        for name in ("transformer", "transformer_2")
    }


def test_a_transformer_folder_is_named_by_its_part_in_a_pipeline(pipeline: Path) -> None:
    alone = component_headers(open_source(str(pipeline / "transformer_2")))
    whole = component_headers(open_source(str(pipeline)))
    assert alone.keys() == {"transformer"}
    assert alone["transformer"].folder == "transformer"
    assert alone["transformer"].fingerprint == whole["transformer_2"].fingerprint


def test_an_artifact_keeps_the_headers(pipeline: Path, tmp_path: Path) -> None:
    source = open_source(str(pipeline))
    headers = component_headers(source)
    with create_artifact(tmp_path / "a", Header("videos", 1, "t", source.family_name, source.name, headers)):
        pass
    assert (tmp_path / "a" / FILE_NAME).is_file()
    entries = open_artifact(tmp_path / "a", "videos", 1).manifest.components
    assert {
        name: ComponentHeader(entry.folder, entry.fingerprint, entry.config) for name, entry in entries.items()
    } == headers


def test_headers_have_the_folders_that_are_given(pipeline: Path) -> None:
    source = open_source(str(pipeline))
    headers = headers_in({"transformer": "high", "transformer_2": "low"}, source.components)
    assert {name: header.folder for name, header in headers.items()} == {"transformer": "high", "transformer_2": "low"}
    assert {name: header.fingerprint for name, header in headers.items()} == source.fingerprints
