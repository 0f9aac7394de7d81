"""The CPU kernel against 64-bit integers and floats."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.numerics.quantize import Quantized, quantize_tokens, quantize_weight
from vq_core.scheme import NumberFormat
from vq_infer.kernels import cpu


@pytest.mark.parametrize("in_features", [1, 1040, 1041, 5120])
def test_int8_products_are_exact_at_the_largest_codes(in_features: int) -> None:
    # Odd sums near 127²·K: one lost bit of a partial sum shows.
    x = torch.full((3, in_features), 127, dtype=torch.int8)
    weight = torch.full((2, in_features), 127, dtype=torch.int8)
    weight[1, : in_features // 2] = -126
    ones = torch.ones
    y = cpu.multiply(Quantized(x, ones(3, 1)), Quantized(weight, ones(2, 1)), None, torch.float32)
    exact = x.long() @ weight.long().t()
    if in_features <= cpu.EXACT_K:
        assert torch.equal(y.long(), exact)
    torch.testing.assert_close(y.double(), exact.double(), rtol=2**-23, atol=0)


def test_exact_k_is_the_longest() -> None:
    assert cpu.EXACT_K * 127 * 128 <= 2**24 < (cpu.EXACT_K + 1) * 127 * 128


@given(
    fmt=st.sampled_from(NumberFormat),
    tokens=st.integers(0, 9),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_any_shape_against_float64(
    fmt: NumberFormat, tokens: int, in_features: int, out_features: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = quantize_tokens(torch.randn(tokens, in_features, generator=generator), fmt)
    weight = quantize_weight(torch.randn(out_features, in_features, generator=generator), fmt)
    bias = torch.randn(out_features, generator=generator)
    y = cpu.multiply(x, weight, bias, torch.float32)
    exact = (x.codes.double() * x.scale.double()) @ (weight.codes.double() * weight.scale.double()).t() + bias.double()
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
