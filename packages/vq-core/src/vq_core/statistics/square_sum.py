"""Σ_t x_tk²: over the count, the second moment; the diagonal of the Hessian of a layer's output error."""

import torch
from torch import Tensor

DTYPE = torch.float64
GRID = 2.0**-12


def reduce(x: Tensor) -> Tensor:
    """`[tokens, in]` → `[in]`, accumulated in fp32."""
    return x.float().square().sum(dim=0)


def merge(a: Tensor, b: Tensor) -> Tensor:
    """Sum."""
    return a + b
