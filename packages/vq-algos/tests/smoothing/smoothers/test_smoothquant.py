"""SmoothQuant against the formula, written out in fp64 numpy as LLMC computes it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_algos.smoothing.smoothers.smoothquant import migration, smoothing
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem

FP32_ROUNDING = 1e-6


def _reference(calls: list[np.ndarray], weights: list[np.ndarray], alpha: float) -> np.ndarray:
    """LLMC: x = max over all calls and tokens, w = max over the rows of all linears; no normalisation."""
    x_max = np.abs(np.concatenate(calls).astype(np.float64)).max(axis=0)
    w_max = np.abs(np.concatenate(weights).astype(np.float64)).max(axis=0).clip(min=1e-5)
    return (x_max**alpha / w_max ** (1 - alpha)).clip(min=1e-5)


def _ours(calls: list[np.ndarray], weights: list[np.ndarray], alpha: float) -> np.ndarray:
    activation = torch.stack([torch.from_numpy(call).abs().amax(dim=0) for call in calls]).amax(dim=0)
    problem = SmoothingProblem([torch.from_numpy(weight) for weight in weights], activation, activation)
    found = smoothing(problem, SmootherOptions(alpha))
    assert found.decision == {"alpha": alpha}
    return found.s.numpy()


@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0, 1), spread=st.floats(0, 3))
def test_it_is_the_formula(seed: int, alpha: float, spread: float) -> None:
    random = np.random.default_rng(seed)
    channels = 10 ** random.normal(0, spread, 12)
    calls = [(random.normal(size=(tokens, 12)) * channels).astype(np.float32) for tokens in (7, 3)]
    weights = [random.normal(size=(rows, 12)).astype(np.float32) * 1e-3 for rows in (5, 9, 2)]
    x_max = np.abs(np.concatenate(calls)).max(axis=0)
    live = x_max > 1e-6 * np.median(x_max)
    expected = np.where(live, _reference(calls, weights, alpha), 1)
    np.testing.assert_allclose(_ours(calls, weights, alpha), expected, rtol=FP32_ROUNDING)


@pytest.mark.parametrize(
    ("alpha", "activation", "weight", "expected"),
    [
        (0.0, [2.0, 100.0, 0.125], [0.5, 0.25, 4.0], [1 / 0.5, 1 / 0.25, 1 / 4]),  # the weights are evened out
        (1.0, [200.0, 10000.0, 12.5], [0.5, 0.25, 4.0], [200.0, 10000.0, 12.5]),  # the activations, without a norm
        (0.5, [2.0, 100.0, 0.125], [0.5, 0.25, 4.0], [2.0, 20.0, 0.125**0.5 / 2]),  # both meet in the middle
        (0.5, [1.0, 1.0], [1e-9, 1e-5], [1e5**0.5, 1e5**0.5]),  # the weights have a floor
        (0.5, [1e-5, 1.0, 1.0], [1e9, 1.0, 1.0], [1e-5, 1, 1]),  # s has a floor
    ],
)
def test_the_edges_of_alpha_and_the_floors(
    alpha: float, activation: list[float], weight: list[float], expected: list[float]
) -> None:
    s = migration(torch.tensor(activation), torch.tensor(weight), alpha)
    np.testing.assert_allclose(s.numpy(), expected, rtol=FP32_ROUNDING)


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_dead_channels_are_left_alone(alpha: float) -> None:
    activation = torch.tensor([0.0, 1e-7, 3.0, 4.0, 5.0])  # never active; a millionth of the median; live
    weight = torch.tensor([2.0, 2.0, 0.0, 2.0, 2.0])  # the third is read by no weight
    s = migration(activation, weight, alpha)
    assert s[:3].tolist() == [1.0, 1.0, 1.0]
    assert torch.all(s[3:] != 1)
