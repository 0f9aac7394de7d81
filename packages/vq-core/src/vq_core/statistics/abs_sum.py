"""Σ_t |x_tk|: over the count, the mean magnitude that AWQ scales by."""

import torch
from torch import Tensor

DTYPE = torch.float64
GRID = 2.0**-16


def reduce(x: Tensor) -> Tensor:
    """`[tokens, in]` → `[in]`, accumulated in fp32."""
    return x.abs().sum(dim=0, dtype=torch.float32)


def merge(a: Tensor, b: Tensor) -> Tensor:
    """Sum."""
    return a + b
