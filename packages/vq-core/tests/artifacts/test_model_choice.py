"""Which model a command takes."""

import json
from pathlib import Path

import pytest

from vq_core.artifacts.model_choice import ChosenModel, chosen_model, model_of
from vq_core.errors import VqError
from vq_core.store.manifest import FILE_NAME


def artifact(folder: Path, model: object) -> Path:
    """What is read of an artifact that was made from `model`."""
    folder.mkdir()
    (folder / FILE_NAME).write_text(json.dumps({"kind": "any", "model": model}), encoding="utf-8")
    return folder


def test_what_is_said_comes_first(tmp_path: Path) -> None:
    assert chosen_model("some/where", [tmp_path / "no artifact"]) == ChosenModel("some/where")


def test_then_the_artifact_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    given = artifact(tmp_path / "given", str(tmp_path / "model"))
    assert chosen_model(None, [None, given], [artifact(tmp_path / "expected", "wan-tiny")]).name == f"{tmp_path}/model"


@pytest.mark.usefixtures("embedded")
def test_then_the_recipe_s_if_it_is_there(tmp_path: Path) -> None:
    expected = artifact(tmp_path / "expected", "pocket")
    assert chosen_model(None, [None], [tmp_path / "not yet", expected]) == ChosenModel("pocket")


def test_the_toy_comes_last_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: ["wan-tiny"])
    note = "No --model was given: this is the built-in toy wan-tiny."
    assert chosen_model(None, [None], [None, tmp_path / "not yet"]) == ChosenModel("wan-tiny", note)


@pytest.mark.parametrize("model", ["/no/where", "no folder", None])
def test_a_model_that_is_not_here_is_asked_for(tmp_path: Path, model: str | None) -> None:
    given = artifact(tmp_path / "given", model)
    with pytest.raises(VqError, match=f"`--model` is missing: {given} was made from {model}, which is not found here"):
        model_of(given)


def test_an_artifact_that_is_none_is_not_replaced_by_the_toy(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=f"`--model` is missing, and {tmp_path} is no artifact that names its model"):
        chosen_model(None, [tmp_path])
