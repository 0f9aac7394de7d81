"""Residual, LayerNorm, modulation, gain and per-token quantization, and the residual alone, in plain torch."""

import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.tokens import Tokens, tokens_of


def gated_sum(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """x + update·gate in fp32, rounded to the dtype of `x`.

    `x` and `update` are `[batch, tokens, dim]`; `gate` is fp32 `[batch or 1, tokens or 1, dim]`.
    """
    return (x.float() + update.float() * gate).to(x.dtype)


def norm_quantize(
    x: Tensor,
    multiplier: Tensor,
    offset: Tensor,
    eps: float,
    fmt: NumberFormat | None,
    gain: Tensor | None = None,
    update: Tensor | None = None,
    gate: Tensor | None = None,
    rotation: int = NONE,
) -> tuple[Tensor, Tokens]:
    """x' = x + update·gate and Q((LN(x')·multiplier + offset)·gain·R).

    x' and the normed values are rounded to the dtype of `x`, as in diffusers; all else is fp32.

    Args:
        x: hidden states `[batch, tokens, dim]`.
        multiplier: fp32, 1 + scale of a modulated norm, `[batch or 1, tokens or 1, dim]`, or an affine one's weight,
            `[dim]`.
        offset: fp32, the same shape: the shift, or the bias.
        eps: of the LayerNorm.
        fmt: of the codes; None for what a linear in full precision reads.
        gain: fp32 `[dim]`.
        update: first added to x, `[batch, tokens, dim]`; None adds nothing.
        gate: fp32 `[batch or 1, tokens or 1, dim]`, the factor of the update; None is 1.
        rotation: how many channels R rotates together; 1 for none.

    Returns:
        x', which is `x` itself without an update, and codes `[batch, tokens, dim]` with scale `[batch, tokens, 1]`, or
        without a format the values in the dtype of `x`.
    """
    if update is not None:
        x = gated_sum(x, update, gate) if gate is not None else (x.float() + update.float()).to(x.dtype)
    if multiplier.ndim == 1:
        normed = F.layer_norm(x.float(), x.shape[-1:], multiplier, offset, eps)
    else:
        normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps) * multiplier + offset
    return x, tokens_of(normed.to(x.dtype), fmt, gain, rotation)
