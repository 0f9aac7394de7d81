"""The linear layer that runs on codes."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from vq_core.numerics.grouped import GROUP, Packed
from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.numerics.rotation import NONE
from vq_infer.kernels import ProductKernel
from vq_infer.kernels.decode import decode


class QuantLinear(nn.Module):
    """Y = Q((X·gain − mean)·R)·Ŵᵀ + b; Q quantizes every token at run time.

    Attributes:
        codes: `[out, in]`, int8 or float8_e4m3fn; with groups packed, int8 `[out, in·bits/8]`.
        scale: fp32 `[out, 1]`.
        group_scale: float8_e4m3fn `[out, in/16]` of packed codes, or None.
        rotation: how many channels R rotates together; 1 for none.
        bias: `[out]`, or None.
        gain: fp32 `[in]`, by which smoothing multiplies the input, or None.
        mean: fp32 `[in]`, which centering subtracts from the input here, or None.
    """

    codes: Tensor
    scale: Tensor
    group_scale: Tensor | None
    bias: Tensor | None
    gain: Tensor | None
    mean: Tensor | None

    def __init__(
        self,
        weight: Quantized | Packed,
        bias: Tensor | None,
        gain: Tensor | None,
        kernel: ProductKernel,
        mean: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("group_scale", weight.group_scale if isinstance(weight, Packed) else None)
        self.register_buffer("bias", bias)
        self.register_buffer("gain", gain)
        self.register_buffer("mean", mean)
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
        codes = _stacked([linear.codes for linear in linears])
        scale = torch.cat([linear.scale for linear in linears])
        groups = [linear.group_scale for linear in linears if linear.group_scale is not None]
        weight: Quantized | Packed = Quantized(codes, scale, first.rotation)
        if groups:
            weight = Packed(codes, _stacked(groups), scale, first.rotation)
        return cls(weight, torch.cat(biases) if biases else None, first.gain, first.kernel, first.mean)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`."""
        return self.of_tokens(quantize_tokens(x, self.activation, self.gain, self.rotation, self.mean), x.dtype)

    def of_tokens(self, tokens: Quantized | Tensor, dtype: torch.dtype) -> Tensor:
        """Codes `[..., in]`, already multiplied by the gain, less the mean and rotated, → `[..., out]` in `dtype`.

        Raises:
            ValueError: they are no codes, or rotated otherwise than the weight.
        """
        if isinstance(tokens, Tensor):
            raise ValueError("tokens that are not quantized, and a weight that is")
        if tokens.rotation != self.rotation:
            raise ValueError(f"tokens rotated in groups of {tokens.rotation}, and the weight of {self.rotation}")
        weight = self._weight()
        out_features, in_features = weight.codes.shape
        flat = Quantized(tokens.codes.reshape(-1, in_features), tokens.scale.reshape(-1, 1), self.rotation)
        y = self.kernel.multiply(flat, weight, self.bias, dtype)
        return y.reshape(*tokens.codes.shape[:-1], out_features)

    def _weight(self) -> Quantized:
        """The codes that are multiplied."""
        if self.group_scale is None:
            return Quantized(self.codes, self.scale, self.rotation)
        return decode(Packed(self.codes, self.group_scale, self.scale, self.rotation))

    def extra_repr(self) -> str:
        """Sizes, format and kernel, for `print(model)`."""
        out_features, in_features = self.codes.shape
        stored = ""
        if self.group_scale is not None:
            bits = Packed(self.codes, self.group_scale, self.scale, self.rotation).bits
            in_features, stored = self.group_scale.shape[1] * GROUP, f" of {bits} bits"
        gain = "" if self.gain is None else ", gain"
        gain += "" if self.mean is None else ", mean"
        rotated = "" if self.rotation == NONE else f", rotated by {self.rotation}"
        return f"{in_features} → {out_features}, {self.activation}{stored}{gain}{rotated}, {self.kernel.NAME}"


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Rows side by side; as bytes, because torch does not concatenate fp8 everywhere."""
    return torch.cat([tensor.view(torch.int8) for tensor in tensors]).view(tensors[0].dtype)
