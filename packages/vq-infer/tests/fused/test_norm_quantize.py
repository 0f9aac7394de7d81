"""Against the literal formula in fp64."""

import pytest
import torch
from torch import Tensor

from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.norm_quantize import gated_sum, norm_quantize

EPS = 1e-6
STEP = {NumberFormat.INT8: 0.5 / 127, NumberFormat.FP8_E4M3: 2**-4}
"""The largest error of a code: of the row's absmax in INT8, of its own value in FP8."""


def random(*shape: int) -> Tensor:
    return torch.randn(shape)


def normed(x: Tensor, multiplier: Tensor, offset: Tensor) -> Tensor:
    x, multiplier, offset = x.double(), multiplier.double(), offset.double()
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * multiplier + offset


@pytest.mark.parametrize("fmt", NumberFormat)
@pytest.mark.parametrize("vectors", [(2, 1, 96), (2, 7, 96), (96,)], ids=str)
def test_residual_norm_modulation_gain_and_codes(fmt: NumberFormat, vectors: tuple[int, ...]) -> None:
    x, update, gate = random(2, 7, 96), random(2, 7, 96), random(2, 1, 96)
    multiplier, offset = random(*vectors), random(*vectors)
    gain = torch.rand(96) + 0.5
    summed, tokens = norm_quantize(x, multiplier, offset, EPS, fmt, gain, update, gate)
    expected = x.double() + update.double() * gate.double()
    torch.testing.assert_close(summed.double(), expected, rtol=1e-6, atol=1e-6)
    y = normed(expected, multiplier, offset) * gain.double()
    step = STEP[fmt] * (y.abs().amax(-1, keepdim=True) if fmt is NumberFormat.INT8 else y.abs())
    assert ((dequantize(tokens).double() - y).abs() <= step * 1.01 + 1e-3 * y.abs().amax()).all()
    assert (tokens.codes.shape, tokens.scale.shape) == ((2, 7, 96), (2, 7, 1))


def test_without_an_update_the_hidden_states_stay_and_without_a_gate_it_is_added() -> None:
    x, update = random(1, 3, 32).bfloat16(), random(1, 3, 32).bfloat16()
    norm = torch.ones(1, 1, 32), torch.zeros(1, 1, 32), EPS, NumberFormat.INT8
    assert norm_quantize(x, *norm)[0] is x
    assert torch.equal(norm_quantize(x, *norm, update=update)[0], x + update)


def test_an_affine_norm_is_torch_s_bit_for_bit() -> None:
    x, weight, bias = random(2, 7, 96), random(96), random(96)
    _, tokens = norm_quantize(x, weight, bias, EPS, NumberFormat.INT8)
    expected = quantize_tokens(torch.nn.functional.layer_norm(x, (96,), weight, bias, EPS), NumberFormat.INT8)
    assert torch.equal(tokens.codes, expected.codes)
    assert torch.equal(tokens.scale, expected.scale)


@pytest.mark.parametrize("tokens", [1, 5])
def test_the_residual_alone_is_rounded_once(tokens: int) -> None:
    x, update, gate = random(2, 5, 64).bfloat16(), random(2, 5, 64).bfloat16(), random(2, tokens, 64)
    exact = x.double() + update.double() * gate.double()
    torch.testing.assert_close(gated_sum(x, update, gate), exact.bfloat16(), rtol=2**-7, atol=1e-6)
