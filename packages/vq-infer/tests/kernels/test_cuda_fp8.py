"""The FP8 kernel for CUDA against the reference computed in fp64, at the sizes of real models."""

from collections.abc import Callable

import pytest

from vq_core.scheme import NumberFormat
from vq_infer.kernels import cuda_fp8

BF16_OUTPUT = 3e-3  # rounding the output to bfloat16 alone gives 1.7e-3


@pytest.mark.gpu
@pytest.mark.parametrize("smoothed", [False, True])
def test_against_fp64(
    relative_error: Callable[..., float], tokens: int, features: tuple[int, int], smoothed: bool
) -> None:
    assert relative_error(cuda_fp8, NumberFormat.FP8_E4M3, tokens, *features, smoothed=smoothed) < BF16_OUTPUT
