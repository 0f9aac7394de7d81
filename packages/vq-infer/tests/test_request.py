"""What the command line, the recipe and the defaults come to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vq_core.artifacts.checkpoint import FORMAT
from vq_core.errors import VqError
from vq_core.runtime.meter import Usage
from vq_core.sampling.settings import Sampling
from vq_core.store.writer import Header, create_artifact
from vq_infer.options import Task, VideoOptions
from vq_infer.request import Outcome, check_format, resolve_request

RECIPE = """
model: some/model
seed: 7
output: work
eval:
  steps: 9
  height: 64
  guidance_scale: 3.5
  fps: 8
"""


def options(**said: object) -> VideoOptions:
    given = {"model": "m", "checkpoint": Path("c"), "prompt": "p", "image": Path("i.png"), "output": Path("o.mp4")}
    return VideoOptions(**given | said)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models lie by name; the built-in one is installed."""
    monkeypatch.setattr("vq_core.sampling.model_defaults.resolve_model", lambda model, **_: tmp_path / model)
    return tmp_path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_defaults_and_zeros_that_are_said() -> None:
    request = resolve_request("i2v", options())
    assert request.sampling == Sampling()
    assert (request.sample.prompt, request.sample.negative_prompt, request.sample.image) == ("p", "", Path("i.png"))
    assert resolve_request("i2v", options(guidance_scale=0.0, seed=0)).sampling == Sampling(guidance_scale=0.0, seed=0)


def test_recipe_beats_defaults_and_options_beat_the_recipe(recipe: Path, tmp_path: Path) -> None:
    request = resolve_request("t2v", VideoOptions(prompt="p", output=Path("o.mp4"), steps=3, seed=1, recipe=recipe))
    assert request.model == "some/model"
    assert request.checkpoint == tmp_path / "work" / "lightx2v"
    assert request.sampling == Sampling(steps=3, height=64, guidance_scale=3.5, fps=8, seed=1)
    assert resolve_request("t2v", VideoOptions(prompt="p", output=Path("o.mp4"), recipe=recipe)).sampling.seed == 7


def test_the_model_s_own_settings_come_after_option_and_recipe(recipe: Path, models: Path) -> None:
    (models / "m").mkdir()
    (models / "m" / "sampling.json").write_text('{"height": 96, "width": 96, "steps": 20}')
    assert resolve_request("i2v", options()).sampling == Sampling(height=96, width=96, steps=20)
    assert resolve_request("i2v", options(engine="lightx2v")).sampling == Sampling()  # native folders have none
    request = resolve_request("i2v", options(recipe=recipe, steps=3))
    assert request.sampling == Sampling(steps=3, height=64, width=96, guidance_scale=3.5, fps=8, seed=7)


@pytest.mark.parametrize("engine", ["native", "lightx2v"])
def test_what_the_checkpoint_says_comes_before_the_model(recipe: Path, models: Path, engine: str) -> None:
    (models / "m").mkdir()
    (models / "m" / "sampling.json").write_text('{"steps": 20, "fps": 8}')
    said = {"sampling": {"steps": 4, "guidance_scale": 1.0}}
    with create_artifact(models / "ckpt", Header("lightx2v-checkpoint", FORMAT, "test", "wan", "m", {}, said)):
        pass
    (models / "ckpt" / "stray").touch()  # refused when the checkpoint is opened: here only its manifest is read
    distilled = options(checkpoint=models / "ckpt", engine=engine)
    assert resolve_request("i2v", distilled).sampling == Sampling(
        steps=4, guidance_scale=1.0, fps=8 if engine == "native" else Sampling().fps
    )
    request = resolve_request("i2v", replace(distilled, recipe=recipe, steps=3))
    assert (request.sampling.steps, request.sampling.guidance_scale) == (3, 3.5)


def test_vace_s_files() -> None:
    said = {
        "image": None,
        "reference_images": (Path("a.png"), Path("b.png")),
        "video": Path("v.mp4"),
        "mask": Path("m.png"),
    }
    sample = resolve_request("vace", options(**said)).sample
    assert [key for key, _ in sample.files()] == ["reference_images", "reference_images", "video", "mask"]
    with pytest.raises(VqError, match="The command has a `mask`, which requires a `video`"):
        resolve_request("vace", options(**said | {"video": None}))


@pytest.mark.parametrize("task", ["i2v", "t2v"])
def test_without_a_model_that_of_the_checkpoint_is_taken(models: Path, task: Task) -> None:
    (models / "made_from").mkdir()
    header = Header("lightx2v-checkpoint", FORMAT, "test", "wan", str(models / "made_from"), {}, {})
    with create_artifact(models / "ckpt", header):
        pass
    assert resolve_request(task, options(model=None, checkpoint=models / "ckpt")).model == str(models / "made_from")
    (models / "made_from").rmdir()
    sentence = f"`--model` is missing: {models}/ckpt was made from {models}/made_from, which is not found here"
    with pytest.raises(VqError, match=sentence):
        resolve_request(task, options(model=None, checkpoint=models / "ckpt"))


@pytest.mark.parametrize(
    ("task", "change", "sentence"),
    [
        ("i2v", {"checkpoint": None}, "`--checkpoint` is missing"),
        ("i2v", {"prompt": None}, "`--prompt` is missing"),
        ("i2v", {"image": None}, "`--image` is missing"),
        ("i2v", {"output": None}, "`--output` is missing"),
        ("t2v", {"model": None}, r"`--model` is missing, and c is no artifact that names its model: give --model\."),
        ("i2v", {"model": None}, r"`--model` is missing, and c is no artifact that names its model: give --model\."),
        ("i2v", {"model": None, "engine": "lightx2v"}, r"`--model` is missing: give it, or a --recipe that says it\."),
        ("t2v", {"model": None, "engine": "lightx2v"}, r"`--model` is missing: give it, or a --recipe that says it\."),
    ],
)
def test_missing(task: Task, change: dict[str, object], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        resolve_request(task, options(**change))


def test_the_output_is_a_video(tmp_path: Path) -> None:
    check_format(tmp_path / "o.MP4", (".mp4",))
    with pytest.raises(VqError, match=r"o\.avi is not a video format"):
        check_format(tmp_path / "o.avi", (".mp4",))


def test_outcome_for_people_and_machines() -> None:
    stages = {"encode": Usage(1.0, 2**29, 0), "load": Usage(2.0, 2**30, 3 * 2**30)}
    outcome = Outcome(Path("o.mp4"), ("k",), stages, Usage(3.0, 2**30, 0), (5, 48, 64), 0.25, "all stays", (8, 3))
    assert outcome.rows() == {
        "video": "5 frames of 64x48",
        "kernels": "k",
        "per step": "0.25 s",
        "cache": "3 of 8 passes computed",
        "stages": "encode 1.0 s, load 2.0 s (3.0 GiB)",
        "memory plan": "all stays",
        "time": "3.0 s",
        "peak host memory": "1.00 GiB",
    }
    content = json.loads(json.dumps(outcome.to_json()))
    assert content["output"] == "o.mp4"
    assert content["usage"]["host_peak_bytes"] == 2**30
    assert content["stages"]["load"]["device_peak_bytes"] == 3 * 2**30
    assert content["shape"] == [5, 48, 64]
