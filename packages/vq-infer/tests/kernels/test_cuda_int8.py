"""The INT8 kernel for CUDA against the reference computed in fp64, at the sizes of real models."""

from collections.abc import Callable

import pytest

from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import cuda_int8

BF16_OUTPUT = 2e-3  # the product is exact; rounding the output to bfloat16 gives 1.7e-3


@pytest.mark.gpu
@pytest.mark.parametrize("smoothed", [False, True])
def test_against_fp64(
    relative_error: Callable[..., float], tokens: int, features: tuple[int, int], smoothed: bool
) -> None:
    assert relative_error(cuda_int8, NumberFormat.INT8, tokens, *features, smoothed=smoothed) < BF16_OUTPUT
