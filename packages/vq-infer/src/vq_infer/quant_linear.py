"""The linear that runs on codes."""

from torch import Tensor, nn

from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.scheme import NumberFormat
from vq_infer.kernels import Kernel


class QuantLinear(nn.Module):
    """Y = Q(X·gain)·Ŵᵀ + b, where Q quantizes every token as it comes.

    Attributes:
        codes: `[out, in]`, int8 or float8_e4m3fn.
        scale: fp32 `[out, 1]`.
        bias: `[out]`, or None.
        gain: fp32 `[in]`, where smoothing multiplies the input; else None.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None
    gain: Tensor | None

    def __init__(
        self, weight: Quantized, bias: Tensor | None, gain: Tensor | None, activation: NumberFormat, kernel: Kernel
    ) -> None:
        super().__init__()
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("bias", bias)
        self.register_buffer("gain", gain)
        self.activation = activation
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`."""
        out_features, in_features = self.codes.shape
        tokens = quantize_tokens(x.reshape(-1, in_features), self.activation, self.gain)
        y = self.kernel.multiply(tokens, Quantized(self.codes, self.scale), self.bias, x.dtype)
        return y.reshape(*x.shape[:-1], out_features)

    def extra_repr(self) -> str:
        """Sizes, format and kernel, for `print(model)`."""
        out_features, in_features = self.codes.shape
        gain = "" if self.gain is None else ", gain"
        return f"{in_features} → {out_features}, {self.activation}{gain}, {self.kernel.NAME}"
