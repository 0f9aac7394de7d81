"""max_t |x_tk|: what SmoothQuant balances, and the range of a channel."""

import torch
from torch import Tensor

DTYPE = torch.float32
GRID = None


def reduce(x: Tensor) -> Tensor:
    """`[tokens, in]` → `[in]`; NaN propagates."""
    return x.abs().amax(dim=0).float()


def merge(a: Tensor, b: Tensor) -> Tensor:
    """Elementwise maximum."""
    return torch.maximum(a, b)
