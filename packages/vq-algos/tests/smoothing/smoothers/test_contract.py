"""What every smoother promises, whatever it computes."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_algos.smoothing import smoothers
from vq_algos.smoothing.smoothers import Need, Smoother, smoother_named
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem
from vq_core.artifacts.stats import Tokens
from vq_core.discover import plugin_names
from vq_core.numerics.scheme import INT8

NAMES = plugin_names(smoothers.__name__)
OPTIONS = SmootherOptions(alpha=0.6)
MakeProblem = Callable[..., SmoothingProblem]


@pytest.fixture(params=NAMES)
def smoother(request: pytest.FixtureRequest) -> Smoother:
    return smoother_named(cast(str, request.param))


def test_the_known_smoothers_are_found() -> None:
    assert {"none", "smoothquant", "awq", "noise", "auto"} <= set(NAMES)


def test_it_says_what_it_needs(smoother: Smoother) -> None:
    assert set(get_args(Need)) >= smoother.NEEDS


def test_without_what_it_does_not_need_it_does_the_same(smoother: Smoother, make_problem: MakeProblem) -> None:
    whole = make_problem()
    bare = whole
    if "tokens" not in smoother.NEEDS:
        bare = replace(bare, fit=None, held_out=None)
    if "scheme" not in smoother.NEEDS:
        bare = replace(bare, scheme=None)
    if "statistics" not in smoother.NEEDS:
        bare = replace(bare, absmax=torch.ones_like(whole.absmax), mean_abs=torch.ones_like(whole.absmax))
    assert torch.equal(smoother.smoothing(bare, OPTIONS).s, smoother.smoothing(whole, OPTIONS).s)


magnitudes = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**60, width=32))


@pytest.mark.parametrize("name", NAMES)
@given(channels=st.lists(st.tuples(magnitudes, magnitudes), min_size=1, max_size=8), alpha=st.floats(0, 1))
@settings(max_examples=15)
def test_s_is_positive_and_finite_and_so_is_the_gain(
    name: str, channels: list[tuple[float, float]], alpha: float
) -> None:
    activation, weight = (torch.tensor(side) for side in zip(*channels, strict=True))
    rows = torch.randn(12, len(activation), generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * activation
    tokens = Tokens(rows.bfloat16(), torch.ones(12), torch.arange(12) % 8)
    problem = SmoothingProblem([weight.expand(3, -1)], activation, activation / 2, tokens, tokens, INT8)
    s = smoother_named(name).smoothing(problem, SmootherOptions(alpha)).s
    gain = (1 / s).bfloat16()
    assert s.dtype == torch.float32
    assert s.shape == activation.shape
    assert torch.all(torch.isfinite(s) & (s > 0))
    assert torch.all(torch.isfinite(gain) & (gain > 0))


def test_channels_are_independent_of_their_order(smoother: Smoother, make_problem: MakeProblem) -> None:
    problem = make_problem()
    order = torch.randperm(len(problem.absmax), generator=torch.Generator().manual_seed(1))

    def turned(tokens: Tokens | None) -> Tokens | None:
        return None if tokens is None else replace(tokens, rows=tokens.rows[:, order])

    other = SmoothingProblem(
        [weight[:, order] for weight in problem.weights], problem.absmax[order], problem.mean_abs[order],
        turned(problem.fit), turned(problem.held_out), problem.scheme,
    )  # fmt: skip
    s = smoother.smoothing(problem, OPTIONS).s
    torch.testing.assert_close(smoother.smoothing(other, OPTIONS).s, s[order], rtol=1e-3, atol=0)


def test_the_inputs_are_left_as_they_were(smoother: Smoother, make_problem: MakeProblem) -> None:
    problem, before = make_problem(), make_problem()
    smoother.smoothing(problem, OPTIONS)
    assert torch.equal(problem.absmax, before.absmax)
    assert problem.fit is not None
    assert before.fit is not None
    assert torch.equal(problem.fit.rows, before.fit.rows)
    for weight, other in zip(problem.weights, before.weights, strict=True):
        assert torch.equal(weight, other)


def test_it_gives_the_same_bits_every_time(smoother: Smoother, make_problem: MakeProblem) -> None:
    results: list[Tensor] = [smoother.smoothing(make_problem(), OPTIONS).s for _ in range(2)]
    assert torch.equal(*results)
