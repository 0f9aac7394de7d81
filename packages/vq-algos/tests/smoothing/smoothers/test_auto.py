"""The choice among smoothers: the best on held-out tokens, and nothing that makes a linear or a bucket worse."""

from collections.abc import Callable

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


@pytest.mark.parametrize(
    ("noise", "best"),
    [
        (([[4.0, 4.0]], [[3.0, 3.0]], [[2.0, 2.5]]), 2),  # the smallest objective
        (([[1.0], [9.0]], [[1.1], [0.1]], [[0.9], [8.0]]), 2),  # the second makes a linear worse
        (([[1.0, 1.0]], [[2.0, 0.1]], [[0.2, 1.5]]), 0),  # both make a bucket worse
    ],
)
def test_the_best_candidate_that_makes_no_linear_and_no_bucket_worse_is_chosen(
    noise: tuple[list[list[float]], ...], best: int
) -> None:
    assert chosen(_errors(*noise)) == best


def test_a_bucket_may_get_worse_within_the_tolerance() -> None:
    tolerated, too_much = BUCKET_TOLERANCE - 1e-9, BUCKET_TOLERANCE + 1e-9
    assert passes(_errors([[1.0, 9.0]], [[tolerated, 1.0]], [[too_much, 1.0]])).tolist() == [True, True, False]


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
    assert best.decision["smoother"] in ("noise", "smoothquant", "awq", "none")
    errors = output_errors(problem.held_out, problem.weights, [*others, best.s], scheme)  # the first one is s = 1
    assert bool(passes(errors)[-1])
    objective = errors.objective
    assert objective[-1] <= objective[0]
    if scheme is INT8:  # in FP8 all are nearly alike, and the guard of the buckets often leaves the identity alone
        assert objective[-1] <= 1.05 * objective[:-1].min()


def test_the_ranking_sees_the_tokens_with_the_largest_crest() -> None:
    rows = torch.ones(1000, 8)
    rows[[17, 400, 733], 2] = 50
    tokens = Tokens(rows.bfloat16(), torch.arange(1000.0), torch.zeros(1000, dtype=torch.int64))
    some = hardest(tokens, 64)
    assert len(some.rows) == 64
    assert {17.0, 400.0, 733.0} <= set(some.weight.tolist())
    assert len(set(some.weight.tolist())) == 64
