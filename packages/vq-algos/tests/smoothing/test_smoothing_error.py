"""Output errors against the literal formula in fp64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vq_algos.smoothing.smoothing_error import by_bucket, gain_of, output_errors
from vq_algos.smoothing.smoothing_problem import SmoothingProblem
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.numerics.scheme import INT8

MakeProblem = Callable[..., SmoothingProblem]
Rounded = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize(("activations", "rounded"), [(True, True), (True, False), (False, True)])
def test_errors_are_the_formula(
    activations: bool, rounded: bool, make_problem: MakeProblem, int8_rows: Rounded
) -> None:
    problem = make_problem()
    assert problem.fit is not None
    generator = torch.Generator().manual_seed(1)
    weight_of = torch.rand(len(problem.fit.rows), generator=generator) + 0.5
    tokens = Tokens(problem.fit.rows, weight_of, problem.fit.bucket)
    s = [torch.ones(32), torch.rand(32, generator=generator) + 0.5]
    errors = output_errors(tokens, problem.weights, s, INT8, activations=activations, rounded=rounded)

    x, t = tokens.rows.double().numpy(), weight_of.double().numpy()
    for candidate, vector in enumerate(s):
        gain = (1 / vector).bfloat16().double().numpy()
        smoothed = x * gain
        step = np.abs(smoothed).max(axis=1, keepdims=True) / 127
        x_hat = np.round(smoothed / step) * step if activations else smoothed
        for linear, weight in enumerate(problem.weights):
            w = weight.double().numpy() / gain
            w_hat = int8_rows(w) if rounded else w
            reference = x @ weight.double().numpy().T
            noise = t * np.square(reference - x_hat @ w_hat.T).sum(axis=1)
            for row, bucket in enumerate(errors.buckets):
                inside = tokens.bucket.numpy() == bucket
                assert float(errors.noise[candidate, linear, row]) == pytest.approx(noise[inside].sum(), rel=2e-2)
                signal = (t * np.square(reference).sum(axis=1))[inside].sum()
                assert float(errors.signal[linear, row]) == pytest.approx(signal, rel=1e-4)


def test_the_objective_counts_every_linear_alike(make_problem: MakeProblem) -> None:
    problem = make_problem()
    assert problem.fit is not None
    loud = [weight * factor for weight, factor in zip(problem.weights, (1.0, 1000.0), strict=True)]
    s = [torch.ones(32)]
    plain, louder = (output_errors(problem.fit, weights, s, INT8) for weights in (problem.weights, loud))
    torch.testing.assert_close(plain.objective, louder.objective, rtol=2e-2, atol=0)


def test_tokens_fall_into_their_buckets() -> None:
    tokens = Tokens(torch.zeros(4, 1), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5, 2, 5, -1]))
    buckets, weight = by_bucket(tokens)
    assert buckets == (-1, 2, 5)
    assert weight.tolist() == [[0, 0, 0, 4], [0, 2, 0, 0], [1, 0, 3, 0]]


def test_the_gain_is_what_a_bf16_runtime_multiplies_by() -> None:
    gain = gain_of(torch.tensor([3.0, 0.7, 1.0]))
    assert torch.all(is_bf16(gain))
    torch.testing.assert_close(gain, torch.tensor([1 / 3, 1 / 0.7, 1.0]), rtol=2**-8, atol=0)
