"""AWQ against the formulas in fp64, and its search against an exhaustive one over all tokens."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vq_algos.smoothing.smoothers.awq import RATIOS, family, smoothing
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem
from vq_core.artifacts.stats import Tokens

MakeProblem = Callable[..., SmoothingProblem]
Rounded = Callable[[np.ndarray], np.ndarray]


def _reference(problem: SmoothingProblem, version: str, ratio: float) -> np.ndarray:
    a = problem.mean_abs.double().numpy()
    means = []
    for weight in problem.weights:
        magnitude = np.abs(weight.double().numpy())
        means.append((magnitude / magnitude.max(axis=1, keepdims=True)).mean(axis=0))
    w = np.mean(means, axis=0)
    s = a**ratio if version == "v2" else a**ratio / w ** (1 - ratio)
    s = s.clip(min=1e-4)
    return s / np.sqrt(s.max() * s.min())


def _int8_output_error(problem: SmoothingProblem, s: np.ndarray, int8_rows: Rounded) -> float:
    """Mean over the linears of ‖XWᵀ − Q(X/s)Q(Ws)ᵀ‖² / ‖XWᵀ‖² over all fit tokens, in fp64, s as bfloat16 gains."""
    assert problem.fit is not None
    gain = (1 / torch.from_numpy(s)).float().bfloat16().double().numpy()
    x, errors = problem.fit.rows.double().numpy(), []
    smoothed = x * gain
    step = np.abs(smoothed).max(axis=1, keepdims=True) / 127
    x_hat = np.round(smoothed / step) * step
    for weight in problem.weights:
        w = weight.double().numpy()
        errors.append(np.square(x @ w.T - x_hat @ int8_rows(w / gain).T).sum() / np.square(x @ w.T).sum())
    return float(np.mean(errors))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_families_are_the_formulas(version: str, make_problem: MakeProblem) -> None:
    problem = make_problem()
    for ratio, s in family(problem, version).items():
        np.testing.assert_allclose(s.numpy(), _reference(problem, version, ratio), rtol=2e-6)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("seed", range(4))
def test_the_ratio_is_the_best_over_all_tokens(
    version: str, seed: int, make_problem: MakeProblem, int8_rows: Rounded
) -> None:
    problem = make_problem(seed=seed)
    found = smoothing(problem, SmootherOptions(awq_version=version))
    errors = {ratio: _int8_output_error(problem, _reference(problem, version, ratio), int8_rows) for ratio in RATIOS}
    assert errors[float(found.decision["ratio"])] <= 1.001 * min(errors.values())  # fp32 may move a rounding tie
    assert found.decision["awq_version"] == version


def test_later_tokens_count_as_much_as_the_first(make_problem: MakeProblem) -> None:
    """The defect of keeping the first sample's choice would not see what comes after it."""
    problem = make_problem()
    assert problem.fit is not None
    calm = replace(problem.fit, rows=torch.randn(192, 32, generator=torch.Generator().manual_seed(5)).bfloat16())
    rows = torch.cat([calm.rows, problem.fit.rows])
    both = Tokens(rows, torch.ones(len(rows)), torch.zeros(len(rows), dtype=torch.int64))
    turned = replace(both, rows=rows.flip(0))
    options = SmootherOptions()
    first_only = smoothing(replace(problem, fit=calm), options).decision["ratio"]
    whole = smoothing(replace(problem, fit=both), options)
    assert whole.decision["ratio"] == smoothing(replace(problem, fit=turned), options).decision["ratio"]
    assert whole.decision["ratio"] != first_only


def test_dead_channels_are_left_alone(make_problem: MakeProblem) -> None:
    problem = make_problem()
    absmax, mean_abs = problem.absmax.clone(), problem.mean_abs.clone()
    absmax[3] = mean_abs[3] = 0
    for s in family(replace(problem, absmax=absmax, mean_abs=mean_abs), "v2").values():
        assert s[3] == 1
