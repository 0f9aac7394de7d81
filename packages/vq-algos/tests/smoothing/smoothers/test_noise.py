"""The noise model against its formula, and its optimum against SmoothQuant's s."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vq_algos.smoothing.smoothers.noise import BETAS, EPSILON, LEARNING_RATE, STEPS, NoiseModel, P, descend, smoothing
from vq_algos.smoothing.smoothers.smoothquant import column_absmax, migration
from vq_algos.smoothing.smoothing_error import output_errors
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem

MakeProblem = Callable[..., SmoothingProblem]


def _model(problem: SmoothingProblem) -> NoiseModel:
    assert problem.fit is not None
    return NoiseModel(problem.fit, problem.weights, torch.ones(len(problem.absmax), dtype=torch.bool))


def test_it_is_the_formula(make_problem: MakeProblem) -> None:
    problem = make_problem()
    assert problem.fit is not None
    log_s = torch.randn(32, generator=torch.Generator().manual_seed(3))
    s, x = log_s.double().exp().numpy(), np.abs(problem.fit.rows.double().numpy())
    token = np.mean(((x / s) ** P).sum(axis=1) ** (2 / P))
    moment = (x**2).mean(axis=0)
    expected = 0.0
    for weight in problem.weights:
        w = np.abs(weight.double().numpy())
        activations = token * (s**2 * (w**2).sum(axis=0)).sum()
        rounding = (((w * s) ** P).sum(axis=1) ** (2 / P)).sum() * (moment / s**2).sum()
        expected += (activations + rounding) / (moment * (w**2).sum(axis=0)).sum()
    assert float(_model(problem)(log_s)) == pytest.approx(expected, rel=1e-4)


def test_the_descent_is_adams(make_problem: MakeProblem) -> None:
    model, start = _model(make_problem()), torch.zeros(32)
    x = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([x], lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        adam.zero_grad()
        model(x).backward()
        adam.step()
        schedule.step()
    torch.testing.assert_close(descend(model, start), x.detach(), rtol=1e-3, atol=1e-4)
    assert float(model(x.detach())) < 0.5 * float(model(start))


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_better_than_where_it_starts(seed: int, make_problem: MakeProblem) -> None:
    problem = make_problem(seed=seed)
    assert problem.held_out is not None
    assert problem.scheme is not None
    found = smoothing(problem, SmootherOptions())
    start = migration(problem.absmax, column_absmax(problem.weights), 0.5)
    assert _model(problem)(found.s.log()) < 0.99 * _model(problem)(start.log())
    # By the outputs of tokens that it has not seen as well, where the model holds only nearly.
    errors = output_errors(problem.held_out, problem.weights, [start, found.s], problem.scheme)
    assert errors.objective[1] < 1.02 * errors.objective[0]


def test_dead_channels_are_left_alone_and_do_not_move_the_others(make_problem: MakeProblem) -> None:
    problem = make_problem()
    assert problem.fit is not None
    rows, absmax = problem.fit.rows.clone(), problem.absmax.clone()
    rows[:, 3] = absmax[3] = 0
    s = smoothing(replace(problem, fit=replace(problem.fit, rows=rows), absmax=absmax), SmootherOptions()).s
    assert s[3] == 1
    alive = torch.arange(32) != 3
    assert float(s[alive].log().mean()) == pytest.approx(0, abs=1e-5)
