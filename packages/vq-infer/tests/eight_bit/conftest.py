"""Inputs that are hard to quantize, and attention in fp64 to compare with."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class Hard(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor

    def cuda(self) -> "Hard":
        return Hard(*(x.cuda() for x in self))

    def error(self, out: Tensor) -> float:
        """‖out − exact‖ / ‖exact‖, where exact is softmax(q kᵀ / √head_dim) v in fp64."""
        q, k, v = (x.double() for x in self)
        weights = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5, dim=-1)
        exact = torch.einsum("bhqk,bkhd->bqhd", weights, v)
        return float((out.double() - exact).norm() / exact.norm())


def make(
    queries: int, keys: int, dim: int, *, heads: int = 2, spread: float = 2.0, dtype: torch.dtype = torch.float32
) -> Hard:
    """q, k and v of two samples: correlated channels, a few four times as large, a constant in k, v from fused q, k, v.

    `spread` is about the standard deviation of the logits.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mixing = random(heads, 8, dim) / 8**0.5
    q, k, v = (
        torch.einsum("bthr,hrd->bthd", random(2, tokens, heads, 8), mixing) + random(2, tokens, heads, dim) / 2
        for tokens in (queries, keys, keys)
    )
    loud = torch.randperm(dim, generator=generator)[: max(dim // 32, 1)]
    q[..., loud] *= 4
    k[..., loud] *= 4
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k - k.mean(1, keepdim=True)) * dim**-0.5
    q, k = (x * (spread / logits.std().clamp(min=1e-3)) ** 0.5 for x in (q, k))
    fused = torch.stack([q[:, :1].expand_as(k), k + 2 * random(heads, dim), v + random(heads, dim)], dim=2)
    return Hard(q.to(dtype), fused[:, :, 1].to(dtype), fused.to(dtype)[:, :, 2])


@pytest.fixture(scope="session")
def hard() -> Callable[..., Hard]:
    return make
