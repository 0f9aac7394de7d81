import torch

from vq_calib.accumulator import Accumulator
from vq_calib.reduction import eager_reduction
from vq_core.topology import Group

GROUPS = (Group("blocks.0.attn1.out", ("o",), None, 6), Group("text", ("k",), None, 4))


def _calls(count: int, channels: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(1, 7 + index, channels, generator=generator) - 0.5 for index in range(count)]


def test_calls_add_up_by_branch() -> None:
    accumulator = Accumulator(GROUPS, eager_reduction())
    calls = {0: _calls(3, 6), 1: _calls(2, 6)}
    for branch, inputs in calls.items():
        for x in inputs:
            accumulator.add("blocks.0.attn1.out", branch, x)
    taken = accumulator.take()
    assert taken["blocks.0.attn1.out.count"].tolist() == [7 + 8 + 9, 7 + 8]
    for branch, inputs in calls.items():
        tokens = torch.cat([x[0] for x in inputs]).double()
        assert torch.equal(taken["blocks.0.attn1.out.absmax"][branch].double(), tokens.abs().amax(0))
        for name, expected in (
            ("sum", tokens.sum(0)),
            ("abs_sum", tokens.abs().sum(0)),
            ("square_sum", tokens.square().sum(0)),
        ):
            value = taken[f"blocks.0.attn1.out.{name}"]
            assert value.dtype == torch.float64
            torch.testing.assert_close(value[branch], expected, rtol=1e-6, atol=1e-5)


def test_what_was_not_seen_is_zero() -> None:
    accumulator = Accumulator(GROUPS, eager_reduction())
    accumulator.add("text", 0, torch.ones(1, 2, 4))
    taken = accumulator.take()
    assert list(taken) == [
        f"{group.name}.{part}" for group in GROUPS for part in ("abs_sum", "absmax", "square_sum", "sum", "count")
    ]
    assert taken["text.absmax"].tolist() == [[1.0] * 4, [0.0] * 4]
    assert taken["text.count"].tolist() == [2, 0]
    assert not taken["blocks.0.attn1.out.absmax"].any()


def test_taking_starts_anew() -> None:
    accumulator = Accumulator(GROUPS, eager_reduction())
    accumulator.add("text", 0, torch.ones(1, 2, 4))
    accumulator.take()
    accumulator.add("text", 0, torch.full((1, 3, 4), 0.5))
    taken = accumulator.take()
    assert taken["text.absmax"][0].tolist() == [0.5] * 4
    assert taken["text.count"].tolist() == [3, 0]
