"""The folder is laid out as diffusers lays out its own; that diffusers loads it is tested over all packages."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from vq_core.errors import VqError
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.model.source import open_source
from vq_core.store.reader import open_artifact
from vq_export.diffusers_folder import FORMAT, KIND, export_diffusers, written
from vq_export.model.full_precision import FullPrecisionModel, open_full_precision
from vq_export.options import DiffusersOptions


@pytest.fixture
def opened(checkpoints: dict[str, Path]) -> FullPrecisionModel:
    return open_full_precision(DiffusersOptions(checkpoint=checkpoints["int8-smoothed"]))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_transformer_is_the_folder_itself(opened: FullPrecisionModel, models: Any, tmp_path: Path) -> None:
    export_diffusers(opened, tmp_path / "out")
    shards = [f"diffusion_pytorch_model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    assert sorted(files(tmp_path / "out")) == ["config.json", *shards, INDEX_FILE, "manifest.json"]
    config = json.loads((models["i2v"] / "transformer" / "config.json").read_text())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == config

    index = json.loads((tmp_path / "out" / INDEX_FILE).read_text())
    size, found = 0, {}
    for shard in shards:
        with safe_open(tmp_path / "out" / shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                found[name] = shard
                size += file.get_tensor(name).nbytes
    assert index == {"metadata": {"total_size": size}, "weight_map": found}
    assert found.keys() == opened.components["transformer"].topology.tensors.keys()
    assert {found[name] for name in found if name.startswith("blocks.1.")} == {shards[1]}


def test_two_experts_have_a_folder_each_and_the_whole_is_a_model(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    export_diffusers(open_full_precision(DiffusersOptions(checkpoint=checkpoints["fp8-i2v-2.2"])), tmp_path / "out")
    assert not (tmp_path / "out" / "model_index.json").exists()
    source = open_source(str(tmp_path / "out"))
    assert list(source.components) == ["transformer", "transformer_2"]
    assert all((tmp_path / "out" / name / "config.json").exists() for name in source.components)


def test_it_is_an_artifact_that_says_where_it_comes_from(
    opened: FullPrecisionModel, models: dict[str, Path], tmp_path: Path
) -> None:
    export_diffusers(opened, tmp_path / "out", "bf16")
    manifest = open_artifact(tmp_path / "out", KIND, FORMAT).manifest
    assert manifest.model == str(models["i2v"])
    assert (manifest.settings["form"], manifest.settings["dtype"]) == ("dequantized", "bf16")
    assert set(manifest.parents) == {"lightx2v-checkpoint", "smoothed-weights", "quant-params"}
    summary = written(opened, tmp_path / "out")
    assert summary.size == sum(map(len, files(tmp_path / "out").values()))
    assert summary.rows()["form"] == "dequantized"


def test_an_interrupted_run_is_continued_to_the_same_bytes(
    opened: FullPrecisionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = opened.components["transformer"]
    read, shards = component.plain, []

    def interrupted(names: Any) -> Any:
        shards.append(names)
        if len(shards) == 2:
            raise KeyboardInterrupt
        return read(names)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(component, "plain", interrupted)
        export_diffusers(opened, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(VqError, match="continue it with --resume"):
        export_diffusers(opened, tmp_path / "out")
    export_diffusers(opened, tmp_path / "out", resume=True)
    export_diffusers(opened, tmp_path / "undisturbed")
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")
