"""A model's own sampling settings: which of them hold, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from vq_core.errors import VqError
from vq_core.recipes.recipe import DEFAULTS
from vq_core.sampling.model_defaults import defaults_of

WHOLE = {
    "height": 96,
    "width": 128,
    "num_frames": 17,
    "steps": 20,
    "guidance_scale": 3.5,
    "guidance_scale_2": 3.0,
    "fps": 8,
}


def write(folder: Path, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "sampling.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_model_without_settings_has_the_built_in_defaults(tmp_path: Path) -> None:
    assert defaults_of(str(tmp_path)) == DEFAULTS


@pytest.mark.parametrize("said", [{}, {"steps": 20}, {"guidance_scale": 4}, WHOLE])
def test_what_the_model_says_holds_and_nothing_else_changes(tmp_path: Path, said: dict[str, Any]) -> None:
    write(tmp_path, said)
    assert asdict(defaults_of(str(tmp_path))) == asdict(DEFAULTS) | said


def write_experts(folder: Path, config: dict[str, Any]) -> None:
    for component in ("transformer", "transformer_2"):
        (folder / component).mkdir(parents=True)
        (folder / component / "config.json").write_text(json.dumps(config))


def test_a_model_that_says_nothing_is_sampled_as_its_authors_do(tmp_path: Path, t2v_config: dict[str, Any]) -> None:
    write_experts(tmp_path, t2v_config)
    assert defaults_of(str(tmp_path)) == replace(DEFAULTS, guidance_scale=4.0, guidance_scale_2=3.0)
    write(tmp_path, {"steps": 20})
    assert defaults_of(str(tmp_path)) == replace(DEFAULTS, steps=20, guidance_scale=4.0, guidance_scale_2=3.0)
    write(tmp_path, {"guidance_scale": 1.0})
    assert defaults_of(str(tmp_path)) == replace(DEFAULTS, guidance_scale=1.0)


@pytest.mark.parametrize("config", [{}, {"_class_name": "AnotherModel"}])
def test_of_an_unknown_transformer_nothing_is_known(tmp_path: Path, config: dict[str, Any]) -> None:
    write_experts(tmp_path, config)
    assert defaults_of(str(tmp_path)) == DEFAULTS


def test_an_embedded_model_has_settings_too(embedded: Path) -> None:
    write(embedded, WHOLE)
    assert (defaults_of("pocket").height, defaults_of("pocket").width) == (96, 128)


def test_of_a_hub_model_only_the_settings_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str] | None] = []

    def snapshot_download(repo: str, allow_patterns: list[str] | None = None, ignore_patterns: None = None) -> str:
        asked.append(allow_patterns)
        return str(tmp_path / repo)  # a snapshot of no file has no folder

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert defaults_of("Wan-AI/Wan2.1-Example") == DEFAULTS
    assert asked == [["sampling.json", "transformer*/config.json"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"stpes": 4}, "`stpes` in {file} is not a known key (did you mean `steps`?)"),
        ({"seed": 4}, "`seed` in {file} is not a known key"),
        ({"steps": "4"}, "`steps` in {file} is '4': it should be a valid integer."),
        ({"steps": 4.0}, "`steps` in {file} is 4.0: it should be a valid integer."),
        ({"guidance_scale": float("inf")}, "{file} is not JSON (Infinity is no number of JSON): mend it"),
        ({"guidance_scale_2": float("nan")}, "{file} is not JSON (NaN is no number of JSON): mend it"),
        ({"guidance_scale": -1.0}, "`guidance_scale` in {file} is -1.0: it should be greater than or equal to 0."),
        ({"height": 0}, "`height` in {file} is 0: it should be greater than or equal to 1."),
        ({"guidance_scale": True}, "`guidance_scale` in {file} is True: it should be a valid number."),
        ("[]", "{file} is not a JSON object: mend it or remove it."),
        ("{", "{file} is not JSON ("),
    ],
)
def test_refused_in_one_sentence(tmp_path: Path, content: object, said: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(VqError) as refused:
        defaults_of(str(tmp_path))
    assert str(refused.value).startswith(said.format(file=file))
    assert "\n" not in str(refused.value)


def test_refuses_what_is_no_model() -> None:
    with pytest.raises(VqError, match="neither a folder nor a hub id"):
        defaults_of("no/such/model/here")


def test_refuses_a_transformer_that_is_none(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
    config = model / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"out_channels": None}))
    with pytest.raises(VqError, match="says out_channels=None, and whole numbers"):
        defaults_of(str(model))
