from dataclasses import fields, replace
from pathlib import Path

import pytest

from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.request import CollectOptions, request_of
from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.recipes.recipe import Recipe, read_recipe
from vq_core.sampling.settings import Sampling, SamplingOptions

NOTHING = CollectOptions(**{field.name: None for field in fields(CollectOptions)} | {"sampling": SamplingOptions()})


@pytest.fixture
def said(stats: Path, tmp_path: Path) -> CollectOptions:
    """Only what has no default."""
    return replace(NOTHING, model=str(stats), prompts=tmp_path)


def test_defaults(said: CollectOptions) -> None:
    request = request_of(said, Recipe())
    assert request.sampling == Sampling()
    assert (request.tokens, request.part, request.device) == (None, None, None)


def test_options_beat_the_recipe(said: CollectOptions, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("seed: 5\ncalib: {steps: 9, tokens: 128, guidance_scale: 3}\n")
    recipe = read_recipe(path)
    request = request_of(replace(said, sampling=SamplingOptions(steps=2)), recipe)
    assert (request.sampling.steps, request.sampling.seed, request.sampling.guidance_scale) == (2, 5, 3.0)
    assert request.tokens == 128
    assert request_of(replace(said, tokens=0), recipe).tokens == 0


def test_the_part_is_read(said: CollectOptions) -> None:
    assert request_of(replace(said, part="2/3"), Recipe()).part == RunPart(2, 3)
    with pytest.raises(VqError, match="`--part 3/2`"):
        request_of(replace(said, part="3/2"), Recipe())


def test_prompts_must_be_said(said: CollectOptions) -> None:
    with pytest.raises(VqError, match="`--prompts` is missing"):
        request_of(replace(said, prompts=None), Recipe())


def test_loras_are_those_said_before_those_of_the_recipe(said: CollectOptions, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("lora: [{path: a.safetensors, strength: 0.5}]\n")
    recipe = read_recipe(path)
    assert request_of(said, recipe).loras == (LoraRequest(tmp_path / "a.safetensors", 0.5),)
    assert request_of(replace(said, lora=["b:2"]), recipe).loras == (LoraRequest(Path("b"), 2.0),)
    assert request_of(said, Recipe()).loras == ()
