"""RMSNorm and rotary position embedding of queries and keys, in plain torch."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Rope(NamedTuple):
    """Rotary position embedding as diffusers passes it to blocks: every angle's value twice, side by side.

    Attributes:
        cos: fp32 or fp64 `[1, tokens, 1, head_dim]`.
        sin: the same.
    """

    cos: Tensor
    sin: Tensor


def norm_rope(x: Tensor, weights: Tensor, eps: float, rope: Rope | None, heads: int) -> tuple[Tensor, ...]:
    """RMSNorm over all heads of each part of `x`, with its own weight, and rotation by `rope`.

    Values are rounded to the dtype of `x` after the norm and after the rotation, as in diffusers.

    Args:
        x: `[batch, tokens, parts · dim]`, parts side by side; rows may be a slice of longer ones.
        weights: of the norms, `[parts, dim]`.
        eps: of the norms.
        rope: the rotation; None rotates nothing.
        heads: dim = heads · head_dim.

    Returns:
        One contiguous `[batch, tokens, heads, head_dim]` for each part.
    """
    parts = []
    for part, weight in zip(x.chunk(len(weights), dim=-1), weights, strict=True):
        normed = F.rms_norm(part.float(), weight.shape, weight.float(), eps).to(x.dtype).unflatten(-1, (heads, -1))
        parts.append(normed.contiguous() if rope is None else _rotate(normed, rope))
    return tuple(parts)


def _rotate(x: Tensor, rope: Rope) -> Tensor:
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rope.cos[..., 0::2], rope.sin[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
