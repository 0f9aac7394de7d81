"""The linear layer that runs on codes."""

from typing import Self

import torch
from torch import Tensor, nn

from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.numerics.rotation import NONE
from vq_infer.kernels import ProductKernel


class QuantLinear(nn.Module):
    """Y = Q(X·gain·R)·Ŵᵀ + b; Q quantizes every token at run time.

    Attributes:
        codes: `[out, in]`, int8 or float8_e4m3fn.
        scale: fp32 `[out, 1]`.
        rotation: how many channels R rotates together; 1 for none.
        bias: `[out]`, or None.
        gain: fp32 `[in]`, by which smoothing multiplies the input, or None.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None
    gain: Tensor | None

    def __init__(self, weight: Quantized, bias: Tensor | None, gain: Tensor | None, kernel: ProductKernel) -> None:
        super().__init__()
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("bias", bias)
        self.register_buffer("gain", gain)
        self.rotation = weight.rotation
        self.activation = weight.format
        self.kernel = kernel

    @classmethod
    def stacked(cls, *linears: Self) -> Self:
        """One linear with the outputs of `linears`, which read the same input, side by side.

        Raises:
            ValueError: only some have a bias, or they are rotated otherwise.
        """
        first = linears[0]
        if any(linear.rotation != first.rotation for linear in linears):
            raise ValueError("linears that are rotated otherwise cannot be one")
        biases = [linear.bias for linear in linears if linear.bias is not None]
        if len(biases) not in (0, len(linears)):
            raise ValueError("linears with and without a bias cannot be one")
        weight = Quantized(
            torch.cat([linear.codes.view(torch.int8) for linear in linears]).view(first.codes.dtype),
            torch.cat([linear.scale for linear in linears]),
            first.rotation,
        )
        return cls(weight, torch.cat(biases) if biases else None, first.gain, first.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`."""
        return self.of_tokens(quantize_tokens(x, self.activation, self.gain, self.rotation), x.dtype)

    def of_tokens(self, tokens: Quantized | Tensor, dtype: torch.dtype) -> Tensor:
        """Codes `[..., in]`, already multiplied by the gain and rotated, → `[..., out]` in `dtype`.

        Raises:
            ValueError: they are no codes, or rotated otherwise than the weight.
        """
        if isinstance(tokens, Tensor):
            raise ValueError("tokens that are not quantized, and a weight that is")
        if tokens.rotation != self.rotation:
            raise ValueError(f"tokens rotated in groups of {tokens.rotation}, and the weight of {self.rotation}")
        out_features, in_features = self.codes.shape
        flat = Quantized(tokens.codes.reshape(-1, in_features), tokens.scale.reshape(-1, 1), self.rotation)
        y = self.kernel.multiply(flat, Quantized(self.codes, self.scale, self.rotation), self.bias, dtype)
        return y.reshape(*tokens.codes.shape[:-1], out_features)

    def extra_repr(self) -> str:
        """Sizes, format and kernel, for `print(model)`."""
        out_features, in_features = self.codes.shape
        gain = "" if self.gain is None else ", gain"
        rotated = "" if self.rotation == NONE else f", rotated by {self.rotation}"
        return f"{in_features} → {out_features}, {self.activation}{gain}{rotated}, {self.kernel.NAME}"
