"""Modules that take the place of a block's linears: smoothed in full precision, and with simulated quantization."""

from torch import Tensor, nn

from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized


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
    """A linear that computes in floating point what the W8A8 kernels compute: Y = Q((X·gain − mean)·R)·Ŵᵀ + b.

    Attributes:
        codes: `[out, in]`, int8 or float8_e4m3fn.
        scale: fp32 `[out, 1]`.
        rotation: how many channels R rotates together; 1 for none.
        bias: fp32 `[out]`.
        gain: fp32 `[in]` where a modulated norm feeds the linear, else None.
        mean: fp32 `[in]` where GELU feeds it and it is centered, else None.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor
    gain: Tensor | None
    mean: Tensor | None

    def __init__(self, weight: Quantized, bias: Tensor, gain: Tensor | None, mean: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("bias", bias.float())
        self.register_buffer("gain", gain)
        self.register_buffer("mean", mean)
        self.rotation = weight.rotation
        self.activation = weight.format

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`."""
        weight = Quantized(self.codes, self.scale, self.rotation)
        return w8a8_linear(x, weight, self.bias, self.activation, self.gain, self.mean).to(x.dtype)
