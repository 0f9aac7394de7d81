"""Modules that take the place of a block's linears: smoothed in full precision, and with simulated quantization."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.scheme import NumberFormat


class GainLinear(nn.Module):
    """A folded linear in full precision whose input is multiplied by the gain of its modulated norm."""

    def __init__(self, weight: Tensor, bias: Tensor, gain: Tensor) -> None:
        """Weight `[out, in]` and bias `[out]` in the model's dtype, gain fp32 `[in]`."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.register_buffer("gain", gain)
        self.gain: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in x's dtype."""
        return F.linear((x.float() * self.gain).to(self.weight.dtype), self.weight, self.bias).to(x.dtype)


class FakeQuantLinear(nn.Module):
    """A linear that computes what the W8A8 kernels compute, in floating point."""

    def __init__(self, weight: Quantized, bias: Tensor, gain: Tensor | None, activation: NumberFormat) -> None:
        """Weight: codes `[out, in]`, scale `[out, 1]`; bias fp32 `[out]`; gain fp32 `[in]` after a modulated norm."""
        super().__init__()
        self.activation = activation
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("bias", bias)
        self.register_buffer("gain", gain)
        self.codes: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.gain: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in x's dtype."""
        weight = Quantized(self.codes, self.scale)
        compute = _matmul_of_codes if x.is_cuda else w8a8_linear
        return compute(x, weight, self.bias, self.activation, self.gain).to(x.dtype)


def _matmul_of_codes(
    x: Tensor, weight: Quantized, bias: Tensor | None, activation: NumberFormat, gain: Tensor | None = None
) -> Tensor:
    """`w8a8_linear` at tensor-core speed.

    Every code of both formats is a bfloat16 value, so products of bfloat16 codes accumulated in fp32 are exactly what
    the 8-bit kernels accumulate.
    """
    tokens = quantize_tokens(x.flatten(0, -2), activation, gain)
    products = torch.mm(tokens.codes.bfloat16(), weight.codes.bfloat16().t(), out_dtype=torch.float32)
    y = products * tokens.scale * weight.scale.t()
    return (y if bias is None else y + bias.float()).unflatten(0, x.shape[:-1])
