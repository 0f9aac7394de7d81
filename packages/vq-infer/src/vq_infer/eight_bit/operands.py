"""The operands of 8-bit attention: codes and scales of q, k and v, heads first."""

from dataclasses import dataclass
from math import e, log2

import torch
from torch import Tensor

from vq_core.errors import VqError

BLOCK = 128
"""Queries and keys are padded with zeros to multiples of this, and so many rows of k share a scale."""

KEY_BLOCKS = 2
"""Fewest blocks of keys."""

HEAD_DIMS = (64, 128)
"""Smaller heads are padded with zeros to the next of these."""


@dataclass(frozen=True)
class Operands:
    """Codes and scales; `heads` counts every head of every sample, `queries` and `keys` are padded to `BLOCK`.

    The logits, in units of log 2 and up to a constant that softmax ignores, are q_scale · k_scale · (q · kᵀ).
    """

    q: Tensor
    """int8 `[heads, queries, head_dim]`."""
    q_scale: Tensor
    """fp32 `[heads, queries]`."""
    k: Tensor
    """int8 `[heads, keys, head_dim]`."""
    k_scale: Tensor
    """fp32 `[heads, keys / BLOCK]`."""
    v: Tensor
    """float8_e4m3fn `[heads, head_dim, keys]`, the keys in `key_order`."""
    v_scale: Tensor
    """fp32 `[heads, head_dim]`."""
    v_mean: Tensor
    """fp32 `[heads, head_dim]`, added to the output, as weights sum to 1: the mean of v and of its codes' error."""

    @classmethod
    def empty(cls, q: Tensor, keys: int) -> "Operands":
        """Uninitialized operands for q `[batch, queries, heads, head_dim]` and for k and v with `keys` tokens."""
        batch, queries, heads, dim = q.shape
        dim = padded_head_dim(dim)
        rows, columns = padded(queries), padded(keys, KEY_BLOCKS)
        count, device = batch * heads, q.device
        return cls(
            q=torch.empty(count, rows, dim, dtype=torch.int8, device=device),
            q_scale=torch.empty(count, rows, device=device),
            k=torch.empty(count, columns, dim, dtype=torch.int8, device=device),
            k_scale=torch.empty(count, columns // BLOCK, device=device),
            v=torch.empty(count, dim, columns, dtype=torch.float8_e4m3fn, device=device),
            v_scale=torch.empty(count, dim, device=device),
            v_mean=torch.empty(count, dim, device=device),
        )


def padded(tokens: int, blocks: int = 1) -> int:
    """`tokens` rounded up to a multiple of `BLOCK`, and to at least `blocks` of them."""
    return max(-(-tokens // BLOCK), blocks) * BLOCK


def padded_head_dim(dim: int) -> int:
    """The size to which heads of `dim` channels are padded.

    Raises:
        VqError: heads are too wide.
    """
    for wide in HEAD_DIMS:
        if dim <= wide:
            return wide
    raise VqError(
        f"--attention fp8: heads have {dim} channels and at most {HEAD_DIMS[-1]} are supported: use sdpa or cudnn."
    )


def logit_factor(dim: int, rotated_dim: int) -> float:
    """The factor of products of rotated rows: 1/√dim, 1/rotated_dim for the rotation by ±1, and 1/ln 2 for exp2."""
    return dim**-0.5 / rotated_dim * log2(e)


def key_order(device: torch.device) -> Tensor:
    """The key at each of sixteen places along v: `[0 1 8 9 2 3 10 11 …]`.

    A tensor core gives a thread the logits of keys 2t, 2t + 1, 8 + 2t and 9 + 2t and, for the next product, takes from
    it the weights of four neighbours. With v in this order both are the same keys, so threads exchange no weights.
    """
    return torch.arange(16, device=device).view(2, 4, 2).transpose(0, 1).reshape(16)
