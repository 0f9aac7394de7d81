"""The choice among smoothers: the best on held-out tokens, and nothing that makes a linear or a bucket worse."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vq_algos.layer.output_error import BUCKET_TOLERANCE
from vq_algos.smoothing.smoothers import smoother_named
from vq_algos.smoothing.smoothers.auto import chosen, hardest, passes, smoothing
from vq_algos.smoothing.smoothing_error import Errors, output_errors
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.scheme import FP8, INT8, QuantScheme

MakeProblem = Callable[..., SmoothingProblem]


def _errors(*noise: list[list[float]]) -> Errors:
    """Noise of each candidate by linear and bucket; signals are one."""
    table = torch.tensor(noise, dtype=torch.float64)
    return Errors(table, torch.ones_like(table[0]), tuple(range(table.shape[-1])))


def test_the_smallest_objective_wins() -> None:
    assert chosen(_errors([[4.0, 4.0]], [[3.0, 3.0]], [[2.0, 2.5]])) == 2


def test_no_linear_may_get_worse_for_another_s_sake() -> None:
    assert chosen(_errors([[1.0], [9.0]], [[1.1], [0.1]], [[0.9], [8.0]])) == 2


def test_no_bucket_may_get_much_worse_for_another_s_sake() -> None:
    tolerated, too_much = 1.0 * BUCKET_TOLERANCE - 1e-9, 1.0 * BUCKET_TOLERANCE + 1e-9
    assert passes(_errors([[1.0, 9.0]], [[tolerated, 1.0]], [[too_much, 1.0]])).tolist() == [True, True, False]


def test_where_nothing_passes_it_is_the_identity() -> None:
    assert chosen(_errors([[1.0, 1.0]], [[2.0, 0.1]], [[0.2, 1.5]])) == 0


@pytest.mark.parametrize("scheme", [INT8, FP8])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_at_least_as_good_as_every_smoother_alone(
    scheme: QuantScheme, seed: int, make_problem: MakeProblem
) -> None:
    problem = make_problem(seed=seed, scheme=scheme)
    assert problem.held_out is not None
    others = [
        smoother_named(name).smoothing(problem, SmootherOptions(0.5)).s for name in ("none", "smoothquant", "awq")
    ]
    best = smoothing(problem, SmootherOptions())
    objective = output_errors(problem.held_out, problem.weights, [*others, best.s], scheme).objective
    assert objective[-1] <= objective[0]
    if scheme is INT8:  # in FP8 all are nearly alike, and the guard of the buckets often leaves the identity alone
        assert objective[-1] <= 1.05 * objective[:-1].min()


def test_an_input_without_outliers_is_not_made_worse(make_problem: MakeProblem) -> None:
    problem = make_problem()
    generator = torch.Generator().manual_seed(0)
    flat = [
        Tokens(torch.randn(n, 32, generator=generator).bfloat16(), torch.ones(n), torch.arange(n) % 8)
        for n in (128, 64)
    ]
    weights = [torch.randn(24, 32, generator=generator)]
    even = replace(problem, fit=flat[0], held_out=flat[1], weights=weights, absmax=torch.full((32,), 3.0))
    found = smoothing(even, SmootherOptions())
    errors = output_errors(flat[1], weights, [torch.ones(32), found.s], INT8)
    assert bool(passes(errors)[1])


def test_it_says_who_won(make_problem: MakeProblem) -> None:
    assert smoothing(make_problem(), SmootherOptions()).decision["smoother"] in ("noise", "smoothquant", "awq", "none")


def test_the_ranking_sees_the_tokens_with_the_largest_crest() -> None:
    rows = torch.ones(1000, 8)
    rows[[17, 400, 733], 2] = 50
    tokens = Tokens(rows.bfloat16(), torch.arange(1000.0), torch.zeros(1000, dtype=torch.int64))
    some = hardest(tokens, 64)
    assert len(some.rows) == 64
    assert {17.0, 400.0, 733.0} <= set(some.weight.tolist())
    assert len(set(some.weight.tolist())) == 64
