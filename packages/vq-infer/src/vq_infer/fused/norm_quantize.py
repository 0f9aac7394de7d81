"""Residual, LayerNorm, modulation, gain and per-token quantization, in plain torch."""

import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.numerics.scheme import NumberFormat


def norm_quantize(
    x: Tensor,
    multiplier: Tensor,
    offset: Tensor,
    eps: float,
    fmt: NumberFormat,
    gain: Tensor | None = None,
    update: Tensor | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Quantized]:
    """x' = x + update·gate and Q((LN(x')·multiplier + offset)·gain).

    x' and the normed values are rounded to the dtype of `x`, where diffusers rounds them; all else is fp32.

    Args:
        x: hidden states `[batch, tokens, dim]`.
        multiplier: fp32, 1 + scale of a modulated norm, `[batch or 1, tokens or 1, dim]`, or an affine one's weight,
            `[dim]`.
        offset: fp32, the same shape: the shift, or the bias.
        eps: of the LayerNorm.
        fmt: of the codes.
        gain: fp32 `[dim]`.
        update: what the residual stream gains first, `[batch, tokens, dim]`; None leaves x as it is.
        gate: fp32 `[batch or 1, tokens or 1, dim]`, of the update; None is 1.

    Returns:
        x', itself where there is no update, and codes `[batch, tokens, dim]` with scale `[batch, tokens, 1]`.
    """
    if update is not None:
        x = (x.float() + (update.float() if gate is None else update.float() * gate)).to(x.dtype)
    if multiplier.ndim == 1:
        normed = F.layer_norm(x.float(), x.shape[-1:], multiplier, offset, eps)
    else:
        normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps) * multiplier + offset
    return x, quantize_tokens(normed.to(x.dtype), fmt, gain)
