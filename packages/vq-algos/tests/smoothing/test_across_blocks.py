"""One vector for several inputs: the mean of what suits each, and never one that a linear of any input suffers from."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vq_algos.smoothing.across_blocks import mean_of, smoothing_across
from vq_algos.smoothing.smoothers import smoother_named
from vq_algos.smoothing.smoothing_error import output_errors
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.scheme import INT8

MakeProblem = Callable[[Tensor, int], SmoothingProblem]


@pytest.fixture
def problem() -> MakeProblem:
    """`problem(scale, seed)`: two linears on 64 channels, whose inputs have these scales `[64]`."""

    def tokens(scale: Tensor, generator: torch.Generator) -> Tokens:
        rows = torch.randn(256, 64, generator=generator) * scale
        return Tokens(rows, torch.ones(256), torch.arange(256) % 8)

    def make(scale: Tensor, seed: int) -> SmoothingProblem:
        generator = torch.Generator().manual_seed(seed)
        weights = [torch.randn(48, 64, generator=generator) / 8 for _ in range(2)]
        fit, held_out = tokens(scale, generator), tokens(scale, generator)
        absmax, mean_abs = fit.rows.abs().amax(dim=0), fit.rows.abs().mean(dim=0)
        return SmoothingProblem(weights, absmax, mean_abs, fit, held_out, INT8)

    return make


def hot(*channels: int) -> Tensor:
    return torch.ones(64).index_fill(0, torch.tensor(channels), 60.0)


def test_the_mean_is_geometric_and_its_largest_element_one() -> None:
    one, other = torch.tensor([1.0, 4.0, 16.0]), torch.tensor([4.0, 4.0, 1.0])
    expected = (one * other).sqrt()
    torch.testing.assert_close(mean_of([one, other]), expected / expected.max())


@pytest.mark.parametrize("method", ["smoothquant", "awq", "noise"])
def test_one_input_alone_is_smoothed_as_ever(problem: MakeProblem, method: str) -> None:
    only, options = problem(hot(3), 0), SmootherOptions()
    ours, usual = smoothing_across([only], method, options), smoother_named(method).smoothing(only, options)
    torch.testing.assert_close(ours.s, usual.s / usual.s.max())
    assert ours.decision == usual.decision


def test_what_all_inputs_have_in_common_is_taken_away(problem: MakeProblem) -> None:
    problems = [problem(hot(3, 40), seed) for seed in range(3)]
    found = smoothing_across(problems, "auto", SmootherOptions())
    assert found.decision["smoother"] != "none"
    assert found.s[[3, 40]].min() > 4 * found.s[[0, 20, 63]].max()
    for one in problems:
        errors = output_errors(one.held_out, one.weights, [torch.ones(64), found.s], INT8)
        assert (errors.noise[1].sum(dim=-1) < errors.noise[0].sum(dim=-1) / 4).all()


def test_what_one_input_would_suffer_from_is_not_taken(problem: MakeProblem) -> None:
    """Two inputs whose hot channels are the other's cold ones."""
    problems = [problem(hot(*range(32)), 0), problem(hot(*range(32, 64)), 1)]
    found = smoothing_across(problems, "auto", SmootherOptions())
    for one in problems:
        errors = output_errors(one.held_out, one.weights, [torch.ones(64), found.s], INT8)
        assert (errors.noise[1].sum(dim=-1) <= errors.noise[0].sum(dim=-1)).all()
