"""Round-to-nearest against the nearest code, found by trying them all."""

import pytest
import torch

from vq_algos.rounding.rounders.rtn import quantize
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat, Rounding


def _rounded(weight: torch.Tensor, fmt: NumberFormat, rounding: Rounding) -> Quantized:
    (one,) = quantize([weight], None, fmt, rounding)
    return one.quantized


def _all_codes(fmt: NumberFormat) -> torch.Tensor:
    if fmt is NumberFormat.INT8:
        return torch.arange(-127, 128).double()
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
    return values[torch.isfinite(values)]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", NumberFormat)
def test_no_code_is_closer(fmt: NumberFormat, rounding: Rounding) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 16).unsqueeze(1)
    codes, scale = _rounded(weight, fmt, rounding)
    scaled = (weight / scale).double()
    nearest = (scaled.unsqueeze(-1) - _all_codes(fmt)).abs().amin(dim=-1)
    torch.testing.assert_close((codes.double() - scaled).abs(), nearest, rtol=0, atol=0)


def test_ties_go_where_the_rounding_says() -> None:
    ties = torch.tensor([[448.0, 17.0, 19.0, -17.0]])  # between 16 and 18, 18 and 20
    even = _rounded(ties, NumberFormat.FP8_E4M3, Rounding.NEAREST_EVEN).codes.float()
    away = _rounded(ties, NumberFormat.FP8_E4M3, Rounding.QTORCH).codes.float()
    assert even.tolist() == [[448.0, 16.0, 20.0, -16.0]]
    assert away.tolist() == [[448.0, 18.0, 20.0, -18.0]]


def test_an_integer_tie_goes_to_the_even_code_in_both_roundings() -> None:
    ties = torch.tensor([[127.0, 0.5, 1.5, -2.5]])
    for rounding in Rounding:
        assert _rounded(ties, NumberFormat.INT8, rounding).codes.tolist() == [[127, 0, 2, -2]]
