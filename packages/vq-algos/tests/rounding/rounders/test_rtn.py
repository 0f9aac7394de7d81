from operator import attrgetter

import pytest
import torch

from vq_algos.rounding.rounders.rtn import quantize
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.scheme import SCHEMES, QuantScheme, Rounding


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=attrgetter("name"))
def test_it_rounds_each_weight_as_the_numerics_do(scheme: QuantScheme, rounding: Rounding) -> None:
    ties = torch.tensor([[448.0, 17.0, 19.0, -17.0] * 8])  # in E4M3 between 16 and 18, 18 and 20
    for weight in (ties, torch.randn(16, 64, generator=torch.Generator().manual_seed(0))):
        (one,) = quantize([weight], None, scheme, rounding)
        expected = quantize_to(scheme, weight, rounding)
        assert torch.equal(one.quantized.codes.float(), expected.codes.float())
        assert torch.equal(one.quantized.scale, expected.scale)
