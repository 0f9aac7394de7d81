"""A linear in full precision in the place of quantized ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vq_core.numerics.quantize import quantize_tokens
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels.full_linear import FullLinear


def test_the_outputs_of_the_linears_side_by_side() -> None:
    q, k = nn.Linear(8, 4), nn.Linear(8, 6)
    x = torch.randn(2, 3, 8)
    both = FullLinear.stacked(q, k)
    assert torch.allclose(both.of_tokens(x, torch.float32), torch.cat([q(x), k(x)], dim=-1), atol=1e-6)
    assert both.of_tokens(x, torch.bfloat16).dtype == torch.bfloat16
    assert repr(both) == "FullLinear(8 → 10, full precision)"
    alone = FullLinear.stacked(nn.Linear(8, 4, bias=False))
    assert torch.equal(alone.of_tokens(x, torch.float32), F.linear(x, alone.weight))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="with and without a bias"):
        FullLinear.stacked(nn.Linear(8, 4), nn.Linear(8, 4, bias=False))
    codes = quantize_tokens(torch.randn(2, 8), NumberFormat.INT8)
    with pytest.raises(ValueError, match="tokens that are quantized"):
        FullLinear.stacked(nn.Linear(8, 4)).of_tokens(codes, torch.float32)
