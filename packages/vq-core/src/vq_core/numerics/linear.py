"""The function that every W8A8 linear computes, whoever computes it."""

from torch import Tensor

from vq_core.numerics.products import product_of_codes
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
    tokens = quantize_tokens(x.reshape(-1, x.shape[-1]), activation, gain)
    y = product_of_codes(tokens.codes, weight.codes)
    y.mul_(tokens.scale).mul_(weight.scale.t())  # in place: fp32 [tokens, out] is gigabytes in a 14B model
    if bias is not None:
        y.add_(bias)
    return y.reshape(*x.shape[:-1], len(weight.codes))
