import pytest
import torch
from torch import Tensor

from vq_core.numerics.linear import linear_of_codes, w8a8_linear
from vq_core.numerics.quantize import Quantized, quantize_tokens, quantize_weight, snr_db
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import NumberFormat


@pytest.fixture
def x() -> Tensor:
    """Tokens `[2, 6, 64]`, one of them zero."""
    x = torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(0))
    x[0, 0] = 0
    return x


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(32, 64, generator=torch.Generator().manual_seed(1))


def literal_int8(x: Tensor, weight: Quantized, bias: Tensor | None, gain: Tensor) -> Tensor:
    """Integer products summed exactly, then scaled: what an INT8 kernel does, in fp64."""
    smoothed = x.float() * gain
    scale = smoothed.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
    codes = torch.round(smoothed / scale).to(torch.int64)
    products = codes @ weight.codes.to(torch.int64).T
    y = products.double() * scale.double() * weight.scale.double().squeeze(-1)
    return y if bias is None else y + bias.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("with_gain", [True, False])
def test_int8_equals_integer_arithmetic(
    x: Tensor, weight: Tensor, dtype: torch.dtype, with_bias: bool, with_gain: bool
) -> None:
    x = x.to(dtype)
    quantized = quantize_weight(weight, NumberFormat.INT8)
    bias = torch.arange(32.0).to(dtype) if with_bias else None
    gain = torch.linspace(0.5, 2, 64) if with_gain else None
    y = w8a8_linear(x, quantized, bias, NumberFormat.INT8, gain)
    assert y.dtype == torch.float32
    assert y.shape == (2, 6, 32)
    expected = literal_int8(x, quantized, bias, torch.ones(64) if gain is None else gain)
    assert torch.allclose(y.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_rotation_is_one_of_tokens_and_of_the_weight(x: Tensor, weight: Tensor, fmt: NumberFormat) -> None:
    gain = torch.linspace(0.5, 2, 64)
    rotated = quantize_weight(rotate(weight, 16), fmt)._replace(rotation=16)
    plain = w8a8_linear(rotate(x * gain, 16), rotated._replace(rotation=1), None, fmt)
    assert torch.equal(w8a8_linear(x, rotated, None, fmt, gain), plain)
    assert snr_db(torch.nn.functional.linear(x * gain, weight), plain) > 20


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_mean_is_subtracted_after_the_gain_and_before_the_rotation(
    x: Tensor, weight: Tensor, fmt: NumberFormat
) -> None:
    gain, mean = torch.linspace(0.5, 2, 64), torch.linspace(-1, 3, 64)
    rotated = quantize_weight(rotate(weight, 16), fmt)._replace(rotation=16)
    plain = w8a8_linear(rotate(x * gain - mean, 16), rotated._replace(rotation=1), None, fmt)
    assert torch.equal(w8a8_linear(x, rotated, None, fmt, gain, mean), plain)
    assert snr_db(torch.nn.functional.linear(x * gain - mean, weight), plain) > 20


def test_tokens_and_a_weight_in_other_bases_are_refused(x: Tensor, weight: Tensor) -> None:
    tokens = quantize_tokens(x.reshape(-1, 64), NumberFormat.INT8, group=16)
    with pytest.raises(ValueError, match="tokens rotated in groups of 16, and the weight of 1"):
        linear_of_codes(tokens, quantize_weight(weight, NumberFormat.INT8), None)


@pytest.mark.parametrize(("fmt", "least_db"), [(NumberFormat.INT8, 35), (NumberFormat.FP8_E4M3, 27)])
def test_output_is_close_to_the_full_precision_linear(
    x: Tensor, weight: Tensor, fmt: NumberFormat, least_db: float
) -> None:
    bias = torch.ones(32)
    y = w8a8_linear(x, quantize_weight(weight, fmt), bias, fmt)
    assert snr_db(torch.nn.functional.linear(x, weight, bias), y) > least_db


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_gain_undone_by_the_weight_changes_no_more_than_rounding(
    x: Tensor, weight: Tensor, fmt: NumberFormat
) -> None:
    gain = torch.ones(64)
    gain[3] = 0.125
    x[..., 3] *= 40  # an outlier channel, which the gain makes smaller
    reference = x @ weight.T
    plain = w8a8_linear(x, quantize_weight(weight, fmt), None, fmt)
    smoothed = w8a8_linear(x, quantize_weight(weight / gain, fmt), None, fmt, gain)
    assert snr_db(reference, smoothed) > 25
    if fmt is NumberFormat.INT8:
        assert snr_db(reference, smoothed) > snr_db(reference, plain) + 3
