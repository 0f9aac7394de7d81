import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vq_core.numerics import quantize
from vq_core.numerics.bfloat16 import bf16_ceil
from vq_core.numerics.quantize import (
    dequantize,
    quantize_tokens,
    quantize_weight,
    quantized_snr_db,
    snr_db,
    weight_scale,
)
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat, Rounding

FORMATS = list(NumberFormat)
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
# Half the distance between neighbouring codes, as a part of the magnitude: E4M3 keeps 4 significant bits.
FP8_RELATIVE_ERROR = 2.0**-4

seeds = st.integers(0, 2**31 - 1)
exponents = st.integers(-40, 40)


def random_matrix(seed: int, exponent: int, rows: int = 4, columns: int = 9) -> Tensor:
    """Heavy-tailed values of magnitude about 2^exponent, fp32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) ** 3 * 2.0**exponent


@pytest.mark.parametrize("fmt", FORMATS)
@given(seed=seeds, exponent=exponents)
def test_scale_is_the_smallest_bf16_value_that_fits_the_row(fmt: NumberFormat, seed: int, exponent: int) -> None:
    weight = random_matrix(seed, exponent)
    scale = weight_scale(weight, fmt)
    needed = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / fmt.qmax
    assert scale.dtype == torch.float32
    assert scale.shape == (4, 1)
    assert torch.equal(scale.bfloat16().float(), scale)
    assert torch.all(scale >= needed)
    next_smaller = (scale.bfloat16().view(torch.int16) - 1).view(torch.bfloat16).float()
    assert torch.all(next_smaller < needed)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds, exponent=st.integers(-10, 3))
def test_codes_are_within_range_and_half_a_step(
    fmt: NumberFormat, dtype: torch.dtype, seed: int, exponent: int
) -> None:
    weight = random_matrix(seed, exponent).to(dtype)
    quantized = quantize_weight(weight, fmt)
    assert quantized.codes.shape == weight.shape
    assert quantized.codes.dtype == (torch.int8 if fmt is NumberFormat.INT8 else torch.float8_e4m3fn)
    assert quantized.codes.float().abs().max() <= fmt.qmax
    error = (dequantize(quantized).double() - weight.double()).abs()
    half_step = quantized.scale.double() / 2
    if fmt is NumberFormat.FP8_E4M3:
        half_step = torch.maximum(weight.double().abs() * FP8_RELATIVE_ERROR, quantized.scale.double() * 2.0**-10)
    assert torch.all(error <= half_step * (1 + 1e-5))


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    seed=seeds, rows=st.integers(1, 12), columns=st.integers(1, 12), tile=st.integers(1, 80), transposed=st.booleans()
)
def test_tiles_do_not_change_a_bit(
    dtype: torch.dtype,
    fmt: NumberFormat,
    rounding: Rounding,
    seed: int,
    rows: int,
    columns: int,
    tile: int,
    transposed: bool,
) -> None:
    weight = random_matrix(seed, -3, *((columns, rows) if transposed else (rows, columns))).to(dtype)
    weight = weight.T if transposed else weight
    weight[seed % rows] *= seed % 2  # sometimes a row of zeros
    before = weight.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "TILE_ELEMENTS", tile)
        tiled, scale = quantize_weight(weight, fmt, rounding), weight_scale(weight, fmt)
    assert torch.equal(weight, before)

    # The formula on the whole weight at once.
    absmax = weight.float().abs().amax(dim=1, keepdim=True)
    whole = bf16_ceil(torch.clamp(absmax, min=1e-5) / torch.tensor(fmt.qmax))
    whole[absmax == 0] = 1
    codes = round_to_codes(weight.float() / whole, fmt, rounding)
    assert torch.equal(tiled.codes.view(torch.uint8), codes.view(torch.uint8))
    assert torch.equal(tiled.scale, whole)
    assert torch.equal(scale, whole)


@pytest.mark.parametrize("shape", [(0, 5), (1031, 1021), (3, (1 << 19) + 1)])
def test_weights_of_any_shape(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator).bfloat16()
    quantized = quantize_weight(weight, NumberFormat.INT8)
    assert quantized.codes.shape == shape
    assert quantized.scale.shape == (shape[0], 1)
    assert torch.equal(quantized.codes, (weight.float() / quantized.scale).round().to(torch.int8))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_has_no_scale(fmt: NumberFormat, dtype: torch.dtype, value: float) -> None:
    weight = torch.ones(3, 4, dtype=dtype)
    weight[1, 2] = value
    for scale in (weight_scale(weight, fmt), quantize_weight(weight, fmt).scale):
        assert scale.isnan().flatten().tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_is_fp32_whatever_the_dtype(dtype: torch.dtype) -> None:
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    for fmt in FORMATS:
        narrow, wide = quantize_weight(weight, fmt), quantize_weight(weight.float(), fmt)
        assert torch.equal(narrow.codes.float(), wide.codes.float())
        assert torch.equal(narrow.scale, wide.scale)


def test_bf16_weights_never_reach_minus_128() -> None:
    weight = torch.randn(256, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert int(quantize_weight(weight, NumberFormat.INT8).codes.min()) == -127


@pytest.mark.parametrize("fmt", FORMATS)
def test_rows_of_zeros_have_scale_one(fmt: NumberFormat) -> None:
    quantized = quantize_weight(torch.tensor([[0.0, -0.0], [1.0, 2.0]]), fmt)
    assert quantized.scale[0].item() == 1
    assert torch.all(quantized.codes[0].float() == 0)
    assert quantized.scale[1].item() < 1


@pytest.mark.parametrize("fmt", FORMATS)
def test_tiny_rows_meet_the_floor(fmt: NumberFormat) -> None:
    tiny, at_the_floor = torch.tensor([[1e-20, 1e-8]]), torch.tensor([[1e-5, 0.0]])
    assert torch.equal(weight_scale(tiny, fmt), weight_scale(at_the_floor, fmt))
    assert weight_scale(tiny, fmt).item() == pytest.approx(1e-5 / fmt.qmax, rel=2.0**-7)


@pytest.mark.parametrize("fmt", FORMATS)
@given(seed=seeds, exponent=st.integers(-20, 20), gained=st.booleans())
def test_tokens_follow_the_formula(fmt: NumberFormat, seed: int, exponent: int, gained: bool) -> None:
    x = random_matrix(seed, exponent, rows=3).bfloat16()
    gain = random_matrix(seed + 1, 0, rows=1)[0].abs() if gained else None
    quantized = quantize_tokens(x, fmt, gain)

    smoothed = x.float().numpy() * (np.float32(1) if gain is None else gain.numpy())
    floored = np.maximum(np.abs(smoothed).max(axis=-1, keepdims=True), np.float32(1e-5))
    scale = (floored / np.float32(fmt.qmax)).astype(np.float32)
    assert quantized.scale.dtype == torch.float32
    assert np.array_equal(quantized.scale.numpy(), scale)
    scaled = smoothed / scale
    if fmt is NumberFormat.INT8:
        assert np.array_equal(quantized.codes.numpy(), np.clip(np.rint(scaled), -127, 127).astype(np.int8))
    else:
        error = np.abs(quantized.codes.float().numpy() - scaled)
        assert np.all(error <= np.maximum(np.abs(scaled) * FP8_RELATIVE_ERROR, 2.0**-10) * (1 + 1e-6))


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_token_has_its_own_scale_and_zero_tokens_stay_zero(fmt: NumberFormat) -> None:
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    x[1, 3] = 0
    together = quantize_tokens(x, fmt)
    assert together.scale.shape == (2, 5, 1)
    alone = quantize_tokens(x[0, 2], fmt)
    assert torch.equal(together.codes[0, 2].float(), alone.codes.float())
    assert torch.equal(together.scale[0, 2], alone.scale)
    assert torch.all(dequantize(together)[1, 3] == 0)


def test_dequantize_is_codes_times_scale() -> None:
    quantized = quantize_weight(torch.tensor([[127.0, -63.5], [0.5, 0.25]]), NumberFormat.INT8)
    assert torch.equal(dequantize(quantized), quantized.codes.float() * quantized.scale)
    assert dequantize(quantized)[0, 0] == 127


def test_snr() -> None:
    reference = torch.tensor([3.0, 4.0])
    assert snr_db(reference, torch.tensor([3.0, 4.5])) == pytest.approx(20.0)
    assert snr_db(reference, reference) == math.inf
    assert snr_db(torch.zeros(2), torch.zeros(2)) == math.inf
    assert snr_db(torch.zeros(2), reference) == -math.inf
    # In fp32 the square of 1e-30 is zero.
    assert snr_db(reference * 1e-30, reference * 1.1e-30) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("fmt", list(NumberFormat))
@pytest.mark.parametrize("rows", [1, 63, 64, 200])
def test_snr_of_a_quantized_weight_is_that_of_what_it_stands_for(fmt: NumberFormat, rows: int) -> None:
    weight = torch.randn(rows, 48, generator=torch.Generator().manual_seed(rows)).bfloat16()
    quantized = quantize_weight(weight, fmt)
    assert quantized_snr_db(weight, quantized) == pytest.approx(snr_db(weight, dequantize(quantized)), abs=1e-9)
    assert quantized_snr_db(dequantize(quantized), quantized) == math.inf
