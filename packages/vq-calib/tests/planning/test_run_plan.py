from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest, default_tokens, plan_run
from vq_calib.planning.token_table import column
from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_core.topology import Group, Topology

TinyModel = Callable[[Variant], Path]


@pytest.fixture
def request_(tiny_model: TinyModel, prompts: Path, sampling: Sampling) -> CollectRequest:
    return CollectRequest(str(tiny_model("i2v")), prompts, sampling, device="cpu")


def test_a_plan_loads_nothing(request_: CollectRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("transformers", "_assembled", "encode"):
        monkeypatch.setattr(VideoPipeline, part, None)
    planned = plan_run(request_)
    assert [prompt.index for prompt in planned.prompts] == [0, 1, 2]
    assert [len(calls) for calls in planned.calls.values()] == [8]
    assert planned.tokens == 4 * 64
    assert planned.tables is not None
    assert list(planned.topologies) == list(planned.tables) == ["transformer"]
    assert set(column(planned.tables["transformer"]["held-out"], "prompt").tolist()) == {2}


def test_a_part_has_its_own_prompts_and_the_samples_of_all(request_: CollectRequest) -> None:
    planned = plan_run(replace(request_, part=RunPart(2, 2)))
    assert [prompt.index for prompt in planned.prompts] == [1]
    assert len(planned.samples) == 3


def test_every_transformer_has_its_own_calls_and_tokens(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling
) -> None:
    planned = plan_run(CollectRequest(str(tiny_model("i2v-2.2")), prompts, sampling, tokens=8, device="cpu"))
    assert planned.tables is not None
    steps = {name: {call.step for call in calls} for name, calls in planned.calls.items()}
    assert steps["transformer"] | steps["transformer_2"] == {0, 1, 2, 3}
    assert not steps["transformer"] & steps["transformer_2"]
    for name, tables in planned.tables.items():
        assert set(column(tables["fit"], "step").tolist()) <= steps[name]


def test_without_guidance_there_is_one_branch(request_: CollectRequest) -> None:
    planned = plan_run(replace(request_, sampling=replace(request_.sampling, guidance_scale=1.0)))
    assert {call.branch for call in planned.calls["transformer"]} == {0}


def test_zero_tokens_sample_nothing(request_: CollectRequest) -> None:
    planned = plan_run(replace(request_, tokens=0))
    assert (planned.tokens, planned.tables) == (0, None)


@pytest.mark.parametrize(("width", "tokens"), [(64, 256), (1536, 4096), (5120, 4096)])
def test_the_default_is_four_tokens_to_a_channel_up_to_4096(width: int, tokens: int) -> None:
    assert default_tokens([Topology("wan", {}, (), (Group("blocks.0.attn1.qkv", (), None, width),))]) == tokens


def test_an_empty_part_is_refused(request_: CollectRequest) -> None:
    with pytest.raises(VqError, match="3 prompts do not fill 4 parts"):
        plan_run(replace(request_, part=RunPart(4, 4)))
