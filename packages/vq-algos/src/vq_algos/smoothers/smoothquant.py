"""SmoothQuant (Xiao et al., 2023, arXiv 2211.10438, equation 4): s_j = max|X_j|^α / max|W_j|^(1−α).

As LLMC computes it for Wan: over all tokens of all calls and all linears of the group, with a floor of 1e-5 on max|W_j|
and on s_j, without normalisation. Where it differs: a channel that is dead (never active, or read by no weight) keeps
s = 1 instead of the floor, because dividing it by 1e-5 would blow up whatever it holds on other inputs.
"""

import torch
from torch import Tensor

NEEDS_STATISTICS = True

FLOOR = 1e-5
DEAD_BELOW_MEDIAN = 1e-6


def smoothing(activation_absmax: Tensor, weight_absmax: Tensor, alpha: float) -> Tensor:
    """s `[in]`; see the module."""
    s = activation_absmax.pow(alpha) / weight_absmax.clamp(min=FLOOR).pow(1 - alpha)
    dead = (activation_absmax <= DEAD_BELOW_MEDIAN * activation_absmax.median()) | (weight_absmax == 0)
    return torch.where(dead, torch.ones_like(s), s.clamp(min=FLOOR))
