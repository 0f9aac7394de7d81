"""What every rounder promises, whatever it computes."""

from typing import cast

import pytest
import torch
from torch import Tensor

from vq_algos import rounders
from vq_algos.rounders import Rounder, rounder_named
from vq_core.discover import plugin_names
from vq_core.errors import VqError
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.numerics.quantize import dequantize, quantize_weight, snr_db
from vq_core.scheme import NumberFormat, Rounding

NAMES = plugin_names(rounders.__name__)
CODE_DTYPES = {NumberFormat.INT8: torch.int8, NumberFormat.FP8_E4M3: torch.float8_e4m3fn}


@pytest.fixture(params=NAMES)
def rounder(request: pytest.FixtureRequest) -> Rounder:
    return rounder_named(cast(str, request.param))


@pytest.fixture
def weight() -> Tensor:
    """`[24, 40]` with a row of zeros, a row below the floor of the scale, and an outlier."""
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    weight[4] *= 1e-9
    weight[5, 6] = 1000
    return weight


def test_the_known_rounders_are_found() -> None:
    assert "rtn" in NAMES


def test_an_unknown_rounder_lists_the_known_ones() -> None:
    with pytest.raises(VqError, match="`gtpq` is not one of the rounders .*rtn"):
        rounder_named("gtpq")


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", NumberFormat)
def test_codes_and_scale_have_the_promised_form(
    rounder: Rounder, weight: Tensor, fmt: NumberFormat, rounding: Rounding
) -> None:
    codes, scale = rounder.quantize(weight, fmt, rounding)
    assert codes.dtype == CODE_DTYPES[fmt]
    assert codes.shape == weight.shape
    assert codes.float().abs().max() <= fmt.qmax
    assert scale.dtype == torch.float32
    assert scale.shape == (24, 1)
    assert torch.all(torch.isfinite(scale) & (scale > 0) & is_bf16(scale))
    assert torch.all(codes.float()[3] == 0)


@pytest.mark.parametrize("fmt", NumberFormat)
def test_it_comes_close_to_plain_rounding_or_beats_it(rounder: Rounder, weight: Tensor, fmt: NumberFormat) -> None:
    plain = snr_db(weight, dequantize(quantize_weight(weight, fmt)))
    assert snr_db(weight, dequantize(rounder.quantize(weight, fmt, Rounding.NEAREST_EVEN))) > plain - 3


def test_the_weight_is_left_as_it_was(rounder: Rounder, weight: Tensor) -> None:
    before = weight.clone()
    rounder.quantize(weight, NumberFormat.INT8, Rounding.NEAREST_EVEN)
    assert torch.equal(weight, before)
