import pytest
import torch

from vq_algos.rounding.rounders.rtn import quantize
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import NumberFormat, Rounding


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", NumberFormat)
def test_it_rounds_each_weight_as_the_numerics_do(fmt: NumberFormat, rounding: Rounding) -> None:
    ties = torch.tensor([[448.0, 17.0, 19.0, -17.0]])  # in E4M3 between 16 and 18, 18 and 20
    for weight in (ties, torch.randn(16, 64, generator=torch.Generator().manual_seed(0))):
        (one,) = quantize([weight], None, fmt, rounding)
        expected = quantize_weight(weight, fmt, rounding)
        assert torch.equal(one.quantized.codes.float(), expected.codes.float())
        assert torch.equal(one.quantized.scale, expected.scale)
