"""Against the literal formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.row_quantize import gelu_quantize, sum_quantize


@pytest.mark.parametrize("fmt", NumberFormat)
def test_gelu(fmt: NumberFormat) -> None:
    x = torch.linspace(-6, 6, 512).view(1, 4, 128)
    expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    error = (dequantize(gelu_quantize(x, fmt)) - expected).abs()
    scale = expected.abs().amax(-1, keepdim=True) / fmt.qmax
    assert (error <= torch.maximum(scale, 2**-4 * expected.abs() * (fmt is NumberFormat.FP8_E4M3))).all()


def test_a_rotation_comes_after_everything_else() -> None:
    x, addend = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    for rotated, plain in (
        (sum_quantize(x, addend, NumberFormat.INT8, 16), x + addend),
        (gelu_quantize(x, NumberFormat.INT8, 16), F.gelu(x, approximate="tanh")),
    ):
        expected = quantize_tokens(rotate(plain, 16), NumberFormat.INT8)
        assert torch.equal(rotated.codes, expected.codes)
        assert torch.equal(rotated.scale, expected.scale)
        assert rotated.rotation == 16


def test_a_mean_is_subtracted_before_the_rotation() -> None:
    x, mean = torch.randn(2, 3, 32), torch.rand(32)
    found = gelu_quantize(x, NumberFormat.INT8, 16, mean)
    expected = quantize_tokens(rotate(F.gelu(x, approximate="tanh") - mean, 16), NumberFormat.INT8)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scale, expected.scale)


@pytest.mark.parametrize("fmt", NumberFormat)
def test_sum_is_rounded_to_the_dtype_first(fmt: NumberFormat) -> None:
    x, addend = torch.randn(1, 5, 64).bfloat16(), torch.randn(1, 5, 64).bfloat16()
    both, one = sum_quantize(x, addend, fmt), sum_quantize(x + addend, None, fmt)
    assert torch.equal(both.codes.float(), one.codes.float())
    assert torch.equal(both.scale, one.scale)
    assert ((dequantize(one) - (x + addend).float()).abs() <= 0.07 * (x + addend).float().abs() + one.scale).all()
