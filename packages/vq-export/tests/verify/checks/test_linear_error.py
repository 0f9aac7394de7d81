"""The error of a linear, beside what rounding to nearest leaves."""

import math

import pytest
import torch

from vq_core.numerics.quantize import Quantized, quantize_weight, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat
from vq_export.verify.checks.linear_error import linear_error


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_excess_is_zero_for_rounding_and_large_for_one_wrong_row_or_column(fmt: NumberFormat) -> None:
    weight = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    codes, scale, *_ = quantize_weight(weight, fmt)
    assert linear_error(weight, Quantized(codes, scale)).excess_db < 0.01

    wrong_scale = scale.clone()
    wrong_scale[9] *= 2
    wrong_column = weight.clone()
    wrong_column[:, 9] *= 2
    for wrong in (Quantized(codes, wrong_scale), quantize_weight(wrong_column, fmt)):
        error = linear_error(weight, wrong)
        assert error.snr_db > 20
        assert error.excess_db > 25


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_clipped_row_is_compared_with_rounding_at_its_own_scale(fmt: NumberFormat) -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    weight[:, 3] = 20
    scale = weight_scale(weight, fmt)
    for factor, limits in ((0.6, (-1, 0.1)), (0.3, (15, 100)), (2, (15, 100))):
        codes = round_to_codes(weight / (scale * min(factor, 1)), fmt)
        assert limits[0] < linear_error(weight, Quantized(codes, scale * factor)).excess_db < limits[1]


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_column_that_took_over_the_error_of_others_is_no_wrong_gain(fmt: NumberFormat) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(256, 1024, generator=generator)
    moved, doubled = weight.clone(), weight.clone()
    moved[:, 9] += 0.3 * torch.randn(256, generator=generator)
    doubled[:, 9] *= 1.9
    for changed, nearest, sound in ((moved, False, True), (moved, True, False), (doubled, False, False)):
        quantized = quantize_weight(changed, fmt)
        assert (linear_error(weight, quantized, nearest=nearest).excess_db < 15) is sound


def test_excess_allows_for_weights_that_were_stored_in_bfloat16() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    weight[:, 3] *= 100  # far above one step of the others, so that rounding to codes leaves it nearly exact
    quantized = quantize_weight(weight.bfloat16(), NumberFormat.INT8)
    assert linear_error(weight, quantized).excess_db < 6


def test_zeros_have_no_error() -> None:
    zeros = torch.zeros(4, 8)
    error = linear_error(zeros, quantize_weight(zeros, NumberFormat.INT8))
    assert error.snr_db == math.inf
    assert error.excess_db < 0
    nonzero = Quantized(torch.ones(4, 8, dtype=torch.int8), torch.ones(4, 1))
    assert linear_error(zeros, nonzero).excess_db > 100
