"""What the tests of both CUDA kernels share."""

from typing import Protocol

import pytest
import torch

from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.quantize import quantize_tokens, quantize_weight
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import ProductKernel
from vq_infer.kernels.quant_linear import QuantLinear


class RelativeError(Protocol):
    def __call__(
        self,
        kernel: ProductKernel,
        fmt: NumberFormat,
        tokens: int,
        in_features: int,
        out_features: int,
        *,
        smoothed: bool,
    ) -> float: ...


@pytest.fixture
def relative_error() -> RelativeError:
    """‖Y − Y₆₄‖ / ‖Y₆₄‖ of a linear on the GPU with bfloat16 in and out; `smoothed` adds gain and bias."""

    def error(
        kernel: ProductKernel, fmt: NumberFormat, tokens: int, in_features: int, out_features: int, *, smoothed: bool
    ) -> float:
        torch.manual_seed(0)
        weight = quantize_weight(torch.randn(out_features, in_features, device="cuda") / in_features**0.5, fmt)
        bias = torch.randn(out_features, device="cuda").bfloat16() if smoothed else None
        gain = nearest_bf16(torch.rand(in_features, device="cuda") * 4 + 0.1) if smoothed else None
        x = torch.randn(1, tokens, in_features, device="cuda").bfloat16()
        y = QuantLinear(weight, bias, gain, kernel)(x)
        assert y.shape == (1, tokens, out_features)
        assert y.dtype == torch.bfloat16
        x64, weight64 = (q.codes.double() * q.scale.double() for q in (quantize_tokens(x, fmt, gain), weight))
        exact = x64 @ weight64.t()
        if bias is not None:
            exact += bias.double()
        return float((y.double() - exact).norm() / exact.norm())

    return error


@pytest.fixture(params=[(64, 192), (1536, 8960), (5120, 5120), (5120, 13824), (13824, 5120)], ids=str)
def features(request: pytest.FixtureRequest) -> tuple[int, int]:
    """In and out features of linears: the tiny model's, Wan2.1-1.3B's and Wan2.1-14B's."""
    size: tuple[int, int] = request.param
    return size


@pytest.fixture(params=[1, 16, 17, 257, 769, 4096])
def tokens(request: pytest.FixtureRequest) -> int:
    """Tokens of one call: one, those around the smallest that INT8 takes, image and text tokens, many."""
    count: int = request.param
    return count
