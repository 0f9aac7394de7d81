from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vq_calib.options import RunOptions
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest, default_tokens, plan_run, request_of
from vq_calib.planning.token_plan import column
from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.recipes.recipe import Recipe, read_recipe
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.topology import Group, Topology

MakeRequest = Callable[..., CollectRequest]


def test_a_plan_loads_nothing(make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("transformers", "_assembled", "encode"):
        monkeypatch.setattr(VideoPipeline, part, None)
    planned = plan_run(make_request("i2v"))
    assert [prompt.index for prompt in planned.prompts] == [0, 1, 2]
    assert [len(calls) for calls in planned.calls.values()] == [8]
    assert planned.tokens == 4 * 64
    assert planned.tables is not None
    assert list(planned.topologies) == list(planned.tables) == ["transformer"]
    assert set(column(planned.tables["transformer"]["held-out"], "prompt").tolist()) == {2}


@pytest.mark.parametrize(("width", "tokens"), [(64, 256), (1536, 4096), (5120, 4096)])
def test_the_default_is_four_tokens_to_a_channel_up_to_4096(width: int, tokens: int) -> None:
    assert default_tokens([Topology("wan", {}, (), (Group("blocks.0.attn1.qkv", (), None, width),))]) == tokens


@pytest.fixture
def said(stats: Path, tmp_path: Path) -> RunOptions:
    """Only what has no default."""
    return RunOptions(model=str(stats), prompts=tmp_path)


def test_defaults(said: RunOptions) -> None:
    request = request_of(said, Recipe())
    assert request.sampling == Sampling()
    assert (request.tokens, request.part, request.device) == (None, None, None)


def test_options_beat_the_recipe(said: RunOptions, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("seed: 5\ncalib: {steps: 9, tokens: 128, guidance_scale: 3}\n")
    recipe = read_recipe(path)
    request = request_of(replace(said, steps=2), recipe)
    assert (request.sampling.steps, request.sampling.seed, request.sampling.guidance_scale) == (2, 5, 3.0)
    assert request.tokens == 128
    assert request_of(replace(said, tokens=0), recipe).tokens == 0


def test_the_part_is_read_and_a_bad_part_or_no_prompts_are_refused(said: RunOptions) -> None:
    assert request_of(replace(said, part="2/3"), Recipe()).part == RunPart(2, 3)
    for other, message in (
        (replace(said, part="3/2"), "`--part 3/2`"),
        (replace(said, prompts=None), "`--prompts` is"),
    ):
        with pytest.raises(VqError, match=message):
            request_of(other, Recipe())


def test_prompts_are_not_asked_for_where_nothing_needs_statistics(said: RunOptions, tmp_path: Path) -> None:
    path = tmp_path / "rtn.yml"
    path.write_text("smooth: {method: none}\n")
    asked = replace(said, prompts=None, recipe=path)
    sentence = r"rtn\.yml asks for no smoothing .*: go on with `vq-algos smooth --recipe .*rtn\.yml`"
    with pytest.raises(VqError, match=sentence):
        request_of(asked, read_recipe(path))
    assert request_of(replace(asked, prompts=tmp_path), read_recipe(path)).prompts == tmp_path
    path.write_text("smooth: {method: none}\nquantize: {method: gptq}\n")
    with pytest.raises(VqError, match="`--prompts` is missing"):
        request_of(asked, read_recipe(path))


def test_loras_are_those_said_before_those_of_the_recipe(said: RunOptions, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("lora: [{path: a.safetensors, strength: 0.5}]\n")
    recipe = read_recipe(path)
    assert request_of(said, recipe).loras == (LoraRequest(tmp_path / "a.safetensors", 0.5),)
    assert request_of(replace(said, lora=["b:2"]), recipe).loras == (LoraRequest(Path("b"), 2.0),)
    assert request_of(said, Recipe()).loras == ()
