"""No smoothing: s = 1."""

import torch
from torch import Tensor

NEEDS_STATISTICS = False


def smoothing(activation_absmax: Tensor, weight_absmax: Tensor, alpha: float) -> Tensor:
    """Ones."""
    return torch.ones_like(weight_absmax)
