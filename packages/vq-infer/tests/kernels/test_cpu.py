"""The CPU kernel against 64-bit floats."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.numerics.quantize import quantize_tokens, quantize_weight
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import cpu


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
