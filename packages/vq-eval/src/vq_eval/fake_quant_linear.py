"""Modules that take the place of a block's linears: smoothed in full precision, and with simulated quantization."""

import torch
from torch import Tensor, nn

from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.scheme import NumberFormat


class GainLinear(nn.Module):
    """A folded linear in full precision whose input is multiplied by the gain of its modulated norm.

    Attributes:
        linear: `[..., in]` → `[..., out]`, weight already divided by the gain.
        gain: fp32 `[in]`.
    """

    gain: Tensor

    def __init__(self, linear: nn.Module, gain: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("gain", gain)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`; the product with the gain is rounded to it once."""
        y: Tensor = self.linear((x.float() * self.gain).to(x.dtype))
        return y


class FakeQuantLinear(nn.Module):
    """A linear that computes in floating point what the W8A8 kernels compute: Y = Q(X·gain)·Ŵᵀ + b.

    Attributes:
        codes: `[out, in]`, int8 or float8_e4m3fn.
        scale: fp32 `[out, 1]`.
        bias: fp32 `[out]`.
        gain: fp32 `[in]` where a modulated norm feeds the linear, else None.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor
    gain: Tensor | None

    def __init__(self, weight: Quantized, bias: Tensor, gain: Tensor | None, activation: NumberFormat) -> None:
        super().__init__()
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("bias", bias.float())
        self.register_buffer("gain", gain)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`."""
        weight = Quantized(self.codes, self.scale)
        compute = w8a8_linear_of_codes if x.is_cuda else w8a8_linear
        return compute(x, weight, self.bias, self.activation, self.gain).to(x.dtype)


def w8a8_linear_of_codes(
    x: Tensor, weight: Quantized, bias: Tensor | None, activation: NumberFormat, gain: Tensor | None = None
) -> Tensor:
    """`vq_core.numerics.linear.w8a8_linear` on CUDA tensors, at the speed of bfloat16 tensor cores.

    Every code of both formats is a bfloat16 value, and a product of two has at most 16 significant bits, so only the
    fp32 sums are rounded. The scales come after the sum, as in the 8-bit kernels.
    """
    tokens = quantize_tokens(x.flatten(0, -2), activation, gain)
    y = torch.mm(tokens.codes.bfloat16(), weight.codes.bfloat16().t(), out_dtype=torch.float32)
    y.mul_(tokens.scale).mul_(weight.scale.t())  # in place: fp32 [tokens, out] is gigabytes in a 14B model
    if bias is not None:
        y.add_(bias)
    return y.unflatten(0, x.shape[:-1])
