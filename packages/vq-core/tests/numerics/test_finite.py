from pathlib import Path

import pytest
import torch

from vq_core.errors import VqError
from vq_core.numerics.finite import require_finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_refuses_what_is_not_finite_by_name(bad: float, dtype: torch.dtype) -> None:
    tensor = torch.ones(3, 4, dtype=dtype)
    tensor[1, 2] = bad
    tensor[2, 3] = bad
    with pytest.raises(VqError, match=r"`blocks\.0\.x` in /models/wan has 2 values of 12 that are NaN or infinite"):
        require_finite(tensor, "blocks.0.x", Path("/models/wan"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn])
def test_accepts_finite_values_and_codes(dtype: torch.dtype) -> None:
    require_finite(torch.ones(3).to(dtype), "x", "model")


def test_accepts_the_largest_value_and_nothing() -> None:
    require_finite(torch.tensor([torch.finfo(torch.float32).max]), "x", "model")
    require_finite(torch.empty(0), "x", "model")
