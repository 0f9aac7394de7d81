"""Figures of the report, against output errors summed by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vq_algos.smoothing.smoothing_error import Errors, output_errors
from vq_algos.smoothing.smoothing_figures import bucket_snr_db, figures, snr_db
from vq_algos.smoothing.smoothing_problem import SmoothingProblem
from vq_core.numerics.scheme import INT8

MakeProblem = Callable[..., SmoothingProblem]


def test_figures_are_mean_relative_errors_in_db(make_problem: MakeProblem) -> None:
    problem, s = make_problem(), torch.full((32,), 2.0)
    s[:2] = torch.tensor([40.0, 20.0])
    found = figures([problem], s)
    assert problem.held_out is not None
    errors = output_errors(problem.held_out, problem.weights, [torch.ones(32), s], INT8)
    for index, name in enumerate(("unsmoothed_snr_db", "output_snr_db")):
        relative = [float(errors.noise[index, linear].sum() / errors.signal[linear].sum()) for linear in range(2)]
        assert found[name] == pytest.approx(-10 * math.log10(sum(relative) / 2), abs=1e-3)
    parts = [10 ** (-float(str(found[name])) / 10) for name in ("activation_snr_db", "weight_only_snr_db")]
    assert sum(parts) == pytest.approx(10 ** (-float(str(found["output_snr_db"])) / 10), rel=0.15)


@pytest.mark.parametrize("lacking", ["held_out", "scheme"])
def test_without_tokens_or_scheme_there_are_none(lacking: str, make_problem: MakeProblem) -> None:
    assert figures([replace(make_problem(), **{lacking: None})], torch.ones(32)) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("buckets", "figures_db"),
    [((2, 7), [None, None, 20.0, None, None, None, None, 20.0]), ((-1,), [None] * 8)],
)
def test_only_a_bucket_with_tokens_has_a_figure(buckets: tuple[int, ...], figures_db: list[float | None]) -> None:
    noise = torch.full((1, 1, len(buckets)), 0.01, dtype=torch.float64)
    assert bucket_snr_db(Errors(noise, torch.ones_like(noise[0]), buckets), 0) == figures_db


def test_no_noise_has_no_figure() -> None:
    assert (snr_db(0.0), snr_db(math.inf), snr_db(0.001)) == (None, None, 30.0)
