from collections.abc import Callable

import pytest

from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest, default_tokens, plan_run
from vq_calib.planning.token_table import column
from vq_core.sampling.pipeline import VideoPipeline
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


def test_a_part_has_its_own_prompts_and_the_samples_of_all(make_request: MakeRequest) -> None:
    planned = plan_run(make_request("i2v", part=RunPart(2, 2)))
    assert [prompt.index for prompt in planned.prompts] == [1]
    assert len(planned.samples) == 3


def test_every_transformer_has_its_own_calls_and_tokens(make_request: MakeRequest) -> None:
    planned = plan_run(make_request("i2v-2.2", tokens=8))
    assert planned.tables is not None
    steps = {name: {call.step for call in calls} for name, calls in planned.calls.items()}
    assert steps["transformer"] | steps["transformer_2"] == {0, 1, 2, 3}
    assert not steps["transformer"] & steps["transformer_2"]
    for name, tables in planned.tables.items():
        assert set(column(tables["fit"], "step").tolist()) <= steps[name]


def test_zero_tokens_sample_nothing(make_request: MakeRequest) -> None:
    planned = plan_run(make_request("i2v", tokens=0))
    assert (planned.tokens, planned.tables) == (0, None)


@pytest.mark.parametrize(("width", "tokens"), [(64, 256), (1536, 4096), (5120, 4096)])
def test_the_default_is_four_tokens_to_a_channel_up_to_4096(width: int, tokens: int) -> None:
    assert default_tokens([Topology("wan", {}, (), (Group("blocks.0.attn1.qkv", (), None, width),))]) == tokens
