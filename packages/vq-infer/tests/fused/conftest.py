"""Where Triton's kernels run in a test: on a GPU in bfloat16, else in Triton's interpreter in fp32.

The interpreter truncates what it should round to bfloat16 and to FP8. It must be asked for before Triton is imported,
so `test_interpreted.py` runs these tests in a process of its own.
"""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vq_core.numerics.quantize import Quantized, dequantize
from vq_core.numerics.scheme import NumberFormat

CUDA = torch.cuda.is_available()

Random = Callable[..., Tensor]


@pytest.fixture
def dtype() -> torch.dtype:
    """Of activations; skips the test where kernels cannot run in this process."""
    if not CUDA and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("runs in a process of its own: test_interpreted.py")
    return torch.bfloat16 if CUDA else torch.float32


@pytest.fixture
def random() -> Random:
    """Normal numbers of a shape, on the device; fp32 unless said."""
    device = "cuda" if CUDA else "cpu"
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    return draw


@pytest.fixture
def same_codes() -> Callable[[Quantized, Quantized, NumberFormat], None]:
    """Asserts that two quantizations of rows differ by neighbouring codes alone, and by few of them."""

    def check(actual: Quantized, expected: Quantized, fmt: NumberFormat) -> None:
        torch.testing.assert_close(actual.scale, expected.scale, rtol=1e-6, atol=0)
        exact = dequantize(expected)
        step = expected.scale if fmt is NumberFormat.INT8 else (exact.abs() / 8).maximum(expected.scale * 2**-9)
        difference = (dequantize(actual) - exact).abs()
        assert (difference <= step * 1.001).all()
        assert (difference > 1e-5 * exact.abs().amax()).float().mean() <= 0.01

    return check
