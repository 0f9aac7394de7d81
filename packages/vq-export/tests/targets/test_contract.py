"""What every export target keeps to, whichever files lie in the folder of targets."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.manifest import FILE_NAME
from vq_core.recipe import Recipe
from vq_core.store import partial_folder
from vq_export.export import Inputs, open_model
from vq_export.quantized_model import QuantizedModel
from vq_export.targets import target_named, target_names, target_summary

every_target = pytest.mark.parametrize("target", target_names())


@pytest.fixture
def model(models: dict[str, Path]) -> QuantizedModel:
    return open_model(Inputs(model=str(models["t2v"]), scheme="int8"), Recipe())


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lightx2v_is_a_target() -> None:
    assert "lightx2v" in target_names()


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


@every_target
def test_refuses_what_an_interrupted_run_left_and_resumes_it_when_told(
    target: str, model: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component, done = model.components["transformer"], []

    def interrupted(name: str) -> Any:
        done.append(name)
        if name.startswith("blocks.1."):
            raise KeyboardInterrupt
        return type(component).linear(component, name)  # type: ignore[arg-type]

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(component, "linear", interrupted)
        with pytest.raises(KeyboardInterrupt):
            target_named(target).export(model, output, resume=False)
    assert not output.exists()
    with pytest.raises(VqError, match="continue it with --resume"):
        target_named(target).export(model, output, resume=False)
    assert partial_folder(output).exists()

    target_named(target).export(model, output, resume=True)
    target_named(target).export(model, tmp_path / "undisturbed", resume=False)
    assert content(output) == content(tmp_path / "undisturbed")
    assert not partial_folder(output).exists()


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(VqError, match=r"`comfyui` is not one of the targets \(lightx2v"):
        target_named("comfyui")


def test_help_imports_nothing_heavy() -> None:
    check = "import sys, vq_export.cli; print({'torch', 'pydantic', 'safetensors', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
