"""What every run of a model over prompts refuses, before any part of the model is loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant, write_samples
from vq_eval.videos.model_run import ModelRun, open_run

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]
SMALL = Sampling(steps=2, height=64, width=64, num_frames=5)


@pytest.fixture
def opened(tiny_model: TinyModel, artifacts: Artifacts, prompts: Path) -> Callable[..., ModelRun]:
    """`opened(prompts=…)`: a run of `i2v` with these changes."""

    def open_changed(**changed: Any) -> ModelRun:
        usual = {"model": str(tiny_model("i2v")), "weights": [open_weights(artifacts("i2v")[0])], "prompts": prompts}
        return open_run(**usual | {"sampling": SMALL, "loras": (), "device": "cpu"} | changed)

    return open_changed


def test_prompt_i_has_seed_plus_i(opened: Callable[..., ModelRun]) -> None:
    run = opened(sampling=replace(SMALL, seed=7))
    assert [(it.prompt, it.seed) for it in run.sampled_prompts] == [
        (sample.prompt, 7 + index) for index, sample in enumerate(run.samples)
    ]
    assert list(run.encode(run.pipeline, [1])) == [1]


def test_weights_of_another_model_are_refused(opened: Callable[..., ModelRun], artifacts: Artifacts) -> None:
    weights, _ = artifacts("t2v")
    with pytest.raises(VqError, match=f"{weights} was made from another model"):
        opened(weights=[open_weights(weights)])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 100}, "height 100 is not a multiple of 16: use 96 or 112"),
        ({"num_frames": 8}, "num_frames 8 is not 4k"),
        ({"steps": 0}, "steps is 0: give a whole number from 1 to 1000"),
        ({"seed": 2**64 - 1}, "seed is 18446744073709551615, and the last of 2 prompts"),
    ],
)
def test_settings_that_the_model_cannot_have_are_refused(
    opened: Callable[..., ModelRun], change: dict[str, int], sentence: str
) -> None:
    with pytest.raises(VqError, match=sentence):
        opened(sampling=replace(SMALL, **change))


def test_inputs_that_cannot_be_used_are_refused(
    opened: Callable[..., ModelRun], tiny_model: TinyModel, tmp_path: Path
) -> None:
    for change, sentence in (
        ({"prompts": write_samples(tmp_path / "texts", 1, with_images=False)}, "has no `image`"),
        ({"device": "cuda:99"}, "`cuda:99` is not in this machine"),
        ({"model": str(tmp_path)}, f"{tmp_path} is not a model that is read here"),
        ({"model": str(tiny_model("i2v") / "transformer")}, "give a whole diffusers pipeline folder"),
    ):
        with pytest.raises(VqError, match=sentence):
            opened(**change)
