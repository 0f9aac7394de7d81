"""The function that every W8A8 linear computes, whoever computes it."""

import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.quantize import Quantized, dequantize, quantize_tokens
from vq_core.scheme import NumberFormat


def w8a8_linear(
    x: Tensor, weight: Quantized, bias: Tensor | None, activation: NumberFormat, gain: Tensor | None = None
) -> Tensor:
    """Y = Q(X·gain)·Ŵᵀ + b, with Q the per-token quantization and Ŵ the dequantized weight.

    Args:
        x: `[..., in]`, any float dtype.
        weight: codes `[out, in]`, scale `[out, 1]`.
        bias: `[out]`.
        activation: format of the quantized tokens.
        gain: `[in]`, where smoothing multiplies the input.

    Returns:
        `[..., out]` in fp32. The reference for simulation and for every kernel.
    """
    x_dequantized = dequantize(quantize_tokens(x, activation, gain))
    return F.linear(x_dequantized, dequantize(weight), None if bias is None else bias.float())
