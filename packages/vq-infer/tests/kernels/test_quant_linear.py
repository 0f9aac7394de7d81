"""The quantized linear against the reference that simulation uses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.grouped import pack, quantize_grouped
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized, quantize_tokens, quantize_weight
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import cpu
from vq_infer.kernels.quant_linear import QuantLinear


def make(
    fmt: NumberFormat, in_features: int, out_features: int, *, bias: bool = True, gain: bool = False, seed: int = 0
) -> QuantLinear:
    generator = torch.Generator().manual_seed(seed)
    weight = quantize_weight(torch.randn(out_features, in_features, generator=generator), fmt)
    b = torch.randn(out_features, generator=generator) if bias else None
    g = nearest_bf16(torch.rand(in_features, generator=generator) * 4 + 0.1) if gain else None
    return QuantLinear(weight, b, g, cpu)


def reference(linear: QuantLinear, x: Tensor) -> Tensor:
    return w8a8_linear(x, Quantized(linear.codes, linear.scale), linear.bias, linear.activation, linear.gain)


def assert_same(y: Tensor, expected: Tensor) -> None:
    """Equal up to fp32 summation order: relative to the row, as cancellation may leave a small element."""
    bound = 1e-5 * expected.abs().amax().clamp(min=1)
    assert (y - expected).abs().max() <= bound


@given(
    fmt=st.sampled_from(NumberFormat),
    batch=st.lists(st.integers(1, 4), max_size=3),
    in_features=st.integers(1, 70),
    out_features=st.integers(1, 30),
    bias=st.booleans(),
    gain=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape(
    fmt: NumberFormat, batch: list[int], in_features: int, out_features: int, bias: bool, gain: bool, seed: int
) -> None:
    linear = make(fmt, in_features, out_features, bias=bias, gain=gain, seed=seed)
    x = torch.randn(*batch, in_features, generator=torch.Generator().manual_seed(seed + 1)) * 3
    y = linear(x)
    assert y.shape == (*batch, out_features)
    assert_same(y, reference(linear, x))


@pytest.mark.parametrize("fmt", NumberFormat)
def test_a_rotated_weight_reads_rotated_tokens(fmt: NumberFormat) -> None:
    plain = make(fmt, 64, 24, gain=True)
    linear = QuantLinear(Quantized(plain.codes, plain.scale, 16), plain.bias, plain.gain, cpu)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
    expected = w8a8_linear(x, Quantized(plain.codes, plain.scale, 16), plain.bias, fmt, plain.gain)
    assert torch.equal(linear(x), expected)
    assert not torch.allclose(plain(x), expected)
    assert "rotated by 16" in repr(linear)
    stacked = QuantLinear.stacked(linear, linear)
    assert torch.equal(stacked(x), torch.cat([expected, expected], dim=-1))
    with pytest.raises(ValueError, match="tokens rotated in groups of 1, and the weight of 16"):
        linear.of_tokens(quantize_tokens(x, fmt), torch.float32)
    with pytest.raises(ValueError, match="linears that are rotated otherwise cannot be one"):
        QuantLinear.stacked(linear, plain)


@pytest.mark.parametrize("bits", [4, 6])
def test_packed_codes_are_decoded_for_the_product_and_held_as_they_are(bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(rows, 64, generator=generator) for rows in (24, 5))
    quantized = quantize_grouped(rotate(weight, 16), bits)._replace(rotation=16)
    bias, gain = torch.randn(24, generator=generator), torch.full((64,), 1.5)
    linear = QuantLinear(pack(quantized), bias, gain, cpu)
    expected = w8a8_linear(x, quantized, bias, NumberFormat.INT8, gain)
    assert torch.equal(linear(x), expected)
    held = sum(it.nbytes for it in (linear.codes, linear.scale, linear.group_scale) if it is not None)
    assert held == 24 * (64 * bits // 8 + 64 // 16 + 4)
    assert f"64 → 24, int8 of {bits} bits, gain, rotated by 16" in repr(linear)
    stacked = QuantLinear.stacked(linear, linear)
    assert torch.equal(stacked(x), torch.cat([expected, expected], dim=-1))


@pytest.mark.parametrize("fmt", NumberFormat)
def test_many_in_features(fmt: NumberFormat) -> None:
    linear = make(fmt, 5120, 24, gain=True)
    x = torch.randn(2, 5, 5120, generator=torch.Generator().manual_seed(1))
    assert_same(linear(x), reference(linear, x))


@pytest.mark.parametrize("fmt", NumberFormat)
def test_tokens_of_zeros_give_the_bias_and_no_tokens_give_none(fmt: NumberFormat) -> None:
    linear = make(fmt, 32, 8)
    assert linear.bias is not None
    assert torch.equal(linear(torch.zeros(3, 32)), linear.bias.expand(3, 8))
    assert linear(torch.empty(2, 0, 32)).shape == (2, 0, 8)


def test_output_has_the_dtype_of_the_input() -> None:
    linear = make(NumberFormat.INT8, 32, 8)
    x = torch.randn(4, 32).bfloat16()
    y = linear(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, reference(linear, x).bfloat16())


def test_printing_says_what_runs() -> None:
    assert f"64 → 16, int8, gain, {cpu.NAME}" in repr(make(NumberFormat.INT8, 64, 16, gain=True))
