"""The correction against the literal mean of the outputs' errors, in fp64."""

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_algos.layer.inputs import LinearInputs, Sampled
from vq_algos.rounding.bias_correction import bias_shift
from vq_core.numerics.quantize import dequantize, quantize_weight
from vq_core.numerics.scheme import NumberFormat

MakeInputs = Callable[..., LinearInputs]


@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_it_is_the_weighted_mean_of_the_outputs_errors(tokens: int, channels: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(tokens, channels, generator=generator) for _ in range(2))
    weight, other = (torch.randn(rows, channels, generator=generator) for _ in range(2))
    token_weight = torch.rand(tokens, generator=generator) + 0.1
    fit = Sampled(x, x + 0.01 * noise, token_weight, torch.zeros(tokens, dtype=torch.int64))
    dequantized = weight + 0.01 * other
    errors = fit.x.double() @ weight.double().T - fit.x_hat.double() @ dequantized.double().T
    w = token_weight.double().unsqueeze(1)
    expected = ((w * errors).sum(dim=0) / w.sum()).float()
    torch.testing.assert_close(bias_shift(weight, dequantized, fit), expected, rtol=1e-3, atol=1e-6)


def test_it_takes_the_mean_error_away(make_inputs: MakeInputs) -> None:
    inputs = make_inputs(32)
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    dequantized = dequantize(quantize_weight(weight, NumberFormat.INT8))
    shift = bias_shift(weight, dequantized, inputs.fit)
    share = (inputs.fit.weight / inputs.fit.weight.sum()).unsqueeze(1)
    mean = (share * (inputs.fit.x @ weight.T - inputs.fit.x_hat @ dequantized.T - shift)).sum(dim=0)
    assert mean.abs().max() < 1e-3 * shift.abs().max()


def test_nothing_was_lost_and_nothing_is_corrected(make_inputs: MakeInputs) -> None:
    fit = make_inputs(16).fit
    weight = torch.randn(4, 16)
    assert not bias_shift(weight, weight, Sampled(fit.x, fit.x, fit.weight, fit.bucket)).any()
