import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_eval.trajectories.latent_error import latent_error


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_literal_formulas_in_fp64(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(1, 4, 3, 8, 8, generator=generator).to(dtype)
    x = exact + 0.1 * torch.randn(exact.shape, generator=generator).to(dtype)
    ours, theirs = x.double().numpy().ravel(), exact.double().numpy().ravel()
    error = latent_error(x, exact)
    assert error.relative_error == pytest.approx(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs), rel=1e-12)
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    assert error.cosine == pytest.approx(cosine, rel=1e-12)


@given(factor=st.floats(0.1, 10))
def test_a_multiple_points_the_same_way(factor: float) -> None:
    exact = torch.arange(1.0, 9.0, dtype=torch.float64)
    error = latent_error(exact * factor, exact)
    assert error.relative_error == pytest.approx(abs(factor - 1), abs=1e-12)
    assert error.cosine == pytest.approx(1)


def test_equal_tensors_and_zeros_do_not_differ() -> None:
    for x in (torch.ones(3), torch.zeros(3)):
        assert latent_error(x, x.clone()) == (0.0, 1.0)


def test_nan_stays_nan() -> None:
    assert math.isnan(latent_error(torch.tensor([1.0, math.nan]), torch.ones(2)).relative_error)
