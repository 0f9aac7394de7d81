"""The function that every W8A8 linear computes, whoever computes it."""

import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.codes import codes_as_fp32
from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.scheme import NumberFormat


def w8a8_linear(
    x: Tensor, weight: Quantized, bias: Tensor | None, activation: NumberFormat, gain: Tensor | None = None
) -> Tensor:
    """Y = Q(X·gain)·Ŵᵀ + b, with Q the per-token quantization and Ŵ the dequantized weight.

    The scales come after the sum, as in the kernels: only the fp32 sums of codes are rounded otherwise there.

    Args:
        x: `[..., in]`, any float dtype.
        weight: codes `[out, in]`, scale `[out, 1]`.
        bias: `[out]`.
        activation: format of the quantized tokens.
        gain: `[in]`, where smoothing multiplies the input.

    Returns:
        `[..., out]` in fp32. The reference for simulation and for every kernel.
    """
    tokens = quantize_tokens(x, activation, gain)
    y = F.linear(codes_as_fp32(tokens.codes), codes_as_fp32(weight.codes))
    y = y.mul_(tokens.scale).mul_(weight.scale.t())
    return y if bias is None else y.add_(bias)
