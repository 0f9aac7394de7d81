"""Σ_t x_tk²: over the count, the second moment; the diagonal of the Hessian of a layer's output error."""

import torch
from torch import Tensor

DTYPE = torch.float64


def reduce(x: Tensor) -> Tensor:
    """`[tokens, in]` → `[in]`, accumulated in fp32."""
    return torch.linalg.vector_norm(x, ord=2, dim=0, dtype=torch.float32).square()


def merge(a: Tensor, b: Tensor) -> Tensor:
    """Sum."""
    return a + b
