"""The function that every W8A8 linear computes, in simulation and in every kernel."""

import torch
from torch import Tensor

from vq_core.numerics.products import product_of_codes
from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.numerics.scheme import NumberFormat


def w8a8_linear(
    x: Tensor,
    weight: Quantized,
    bias: Tensor | None,
    activation: NumberFormat,
    gain: Tensor | None = None,
    mean: Tensor | None = None,
) -> Tensor:
    """Y = Q((X·gain − mean)·R)·Ŵᵀ + b, Q the per-token quantization, R the weight's rotation, Ŵ its codes · scale.

    The scales come after the sum, as in the kernels: only the fp32 sums of codes are rounded otherwise there.

    Args:
        x: `[..., in]`, any float dtype.
        weight: codes `[out, in]`, scale `[out, 1]`, rotated or not.
        bias: `[out]`.
        activation: format of the quantized tokens.
        gain: `[in]`, where smoothing multiplies the input.
        mean: `[in]`, where centering subtracts it here.

    Returns:
        `[..., out]` in fp32. The reference for simulation and for every kernel.
    """
    tokens = quantize_tokens(x.reshape(-1, x.shape[-1]), activation, gain, weight.rotation, mean)
    return linear_of_codes(tokens, weight, bias).reshape(*x.shape[:-1], len(weight.codes))


def linear_of_codes(tokens: Quantized, weight: Quantized, bias: Tensor | None) -> Tensor:
    """`w8a8_linear` of quantized tokens, codes `[tokens, in]` and scale `[tokens, 1]` → fp32 `[tokens, out]`.

    Raises:
        ValueError: only one of the two is rotated, or in other groups.
    """
    if tokens.rotation != weight.rotation:
        raise ValueError(f"tokens rotated in groups of {tokens.rotation}, and the weight of {weight.rotation}")
    y = product_of_codes(tokens.codes, weight.codes).mul_(tokens.scale)  # in place: y is gigabytes in a 14B model
    if bias is None:
        return y.mul_(weight.scale.t())
    return torch.addcmul(bias.float(), y, weight.scale.t(), out=y)
