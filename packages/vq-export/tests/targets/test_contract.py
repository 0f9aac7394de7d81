"""What every export target keeps to, whichever files lie in the folder of targets."""

import errno
import inspect
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.files import tensor_file
from vq_core.numerics.scheme import Rounding
from vq_core.recipes.recipe import Recipe
from vq_core.store.manifest import FILE_NAME
from vq_core.store.resumable_folder import partial_folder
from vq_export.export import open_model
from vq_export.model.quantized_model import QuantizedModel
from vq_export.options import ExportOptions
from vq_export.targets import target_named, target_names, target_summary

every_target = pytest.mark.parametrize("target", target_names())


@pytest.fixture
def model(models: dict[str, Path], convert: Callable[..., QuantizedModel]) -> QuantizedModel:
    return convert(models["t2v"])


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lightx2v_and_comfyui_are_targets() -> None:
    assert {"comfyui", "lightx2v"} <= set(target_names())


@every_target
def test_is_summed_up_in_one_sentence_without_being_imported(target: str) -> None:
    summary = target_summary(target)
    assert summary.startswith("Write ")
    assert summary.endswith(".")
    assert summary == inspect.getdoc(target_named(target)).partition("\n")[0]  # type: ignore[union-attr]


@every_target
def test_is_a_sub_command(target: str, vq_export: Callable[..., int], capsys: Any) -> None:
    assert vq_export("--help") == 0
    assert f"│ {target} " in capsys.readouterr().out
    assert vq_export(target, "--help") == 0
    printed = capsys.readouterr().out
    assert target_summary(target) in printed
    assert f"vq-export {target} --weights smoothed --qparams qparams -o checkpoint" in printed
    assert "TARGET" not in printed


@every_target
def test_writes_an_artifact_and_the_same_one_again(target: str, model: QuantizedModel, tmp_path: Path) -> None:
    for name in ("a", "b"):
        target_named(target).export(model, tmp_path / name, resume=False)
    assert json.loads((tmp_path / "a" / FILE_NAME).read_text())["model"] == model.model
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@every_target
def test_refuses_an_output_that_exists(target: str, model: QuantizedModel, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(VqError, match="exists already: choose another --output"):
        target_named(target).export(model, tmp_path / "out", resume=False)
    assert list((tmp_path / "out").iterdir()) == []


def interrupt(model: QuantizedModel, patch: pytest.MonkeyPatch) -> None:
    component = model.components["transformer"]

    def interrupted(name: str, device: str = "cpu") -> Any:
        if name.startswith("blocks.1."):
            raise KeyboardInterrupt
        return type(component).linear(component, name)  # type: ignore[arg-type]

    patch.setattr(component, "linear", interrupted)


def fill_the_disk(model: QuantizedModel, patch: pytest.MonkeyPatch) -> None:
    sync = tensor_file.sync

    def full(path: Path) -> None:
        if path.name.endswith(".safetensors.tmp") and "block_0" not in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(path)

    patch.setattr(tensor_file, "sync", full)


@every_target
@pytest.mark.parametrize(
    ("stop", "error", "sentence"),
    [(interrupt, KeyboardInterrupt, "^$"), (fill_the_disk, OSError, r"No space left on device: .*\.safetensors")],
)
def test_refuses_what_a_stopped_run_left_and_resumes_it_when_told(
    target: str, model: QuantizedModel, tmp_path: Path, stop: Any, error: type[BaseException], sentence: str
) -> None:
    output, export = tmp_path / "out", target_named(target).export
    with pytest.MonkeyPatch.context() as patch:
        stop(model, patch)
        with pytest.raises(error, match=sentence):
            export(model, output, resume=False)
    assert not output.exists()
    finished = {path.name for path in partial_folder(output).glob("[!.]*.safetensors")}
    assert finished <= {"block_0.safetensors"}
    with pytest.raises(VqError, match="continue it with --resume"):
        export(model, output, resume=False)

    export(model, output, resume=True)
    export(model, tmp_path / "undisturbed", resume=False)
    assert content(output) == content(tmp_path / "undisturbed")
    assert not partial_folder(output).exists()


@every_target
@pytest.mark.parametrize("block", [0, 1])
def test_a_damaged_source_is_refused_by_tensor_and_what_is_finished_is_kept(
    target: str, block: int, make_model: Callable[..., Path], convert: Callable[..., QuantizedModel], tmp_path: Path
) -> None:
    name, output = f"blocks.{block}.attn1.to_k.weight", tmp_path / "out"
    damaged = convert(make_model("t2v", edit=lambda tensors: tensors[name][3, 5].fill_(float("nan"))), "fp8")
    with pytest.raises(VqError, match=rf"`{re.escape(name)}` in .* has 1 values .* NaN or infinite") as refused:
        target_named(target).export(damaged, output, resume=False)
    if finished := [path.name for path in partial_folder(output).glob("[!.]*")]:
        assert (block, finished) == (1, ["block_0.safetensors"])
        assert f"What is finished lies in {partial_folder(output)}:" in str(refused.value)
    else:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@every_target
@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_on_a_gpu_the_files_are_the_same(
    target: str, scheme: str, rounding: Rounding, models: dict[str, Path], tmp_path: Path
) -> None:
    inputs = ExportOptions(model=str(models["i2v"]), scheme=scheme, rounding=rounding.value)
    for device in ("cpu", "cuda"):
        target_named(target).export(open_model(inputs, Recipe(), device=device), tmp_path / device, resume=False)
    assert content(tmp_path / "cuda") == content(tmp_path / "cpu")


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(VqError, match=r"`onnx` is not one of the targets \(comfyui, lightx2v"):
        target_named("onnx")
