"""SmoothQuant (Xiao et al., 2023, arXiv 2211.10438, equation 4): s_j = max|X_j|^α / max|W_j|^(1−α).

As LLMC computes it for Wan: over all tokens of all calls and all linears of the group, with a floor of 1e-5 on max|W_j|
and on s_j, without normalisation. One difference: a channel that is dead (never active, or read by no weight) keeps
s = 1 instead of the floor, because dividing by 1e-5 would blow up whatever it holds on other inputs.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem

NEEDS = frozenset({"statistics"})

FLOOR = 1e-5
DEAD_BELOW_MEDIAN = 1e-6


def smoothing(problem: SmoothingProblem, options: SmootherOptions) -> Smoothing:
    """s `[in]`; see the module."""
    s = migration(problem.absmax, column_absmax(problem.weights), options.alpha)
    return Smoothing(s, {"alpha": options.alpha})


def migration(activation_absmax: Tensor, weight_absmax: Tensor, alpha: float) -> Tensor:
    """s `[in]` of one migration strength α, from the absmax `[in]` of the input's channels and the weights' columns."""
    s = activation_absmax.pow(alpha) / weight_absmax.clamp(min=FLOOR).pow(1 - alpha)
    return torch.where(dead_channels(activation_absmax, weight_absmax), torch.ones_like(s), s.clamp(min=FLOOR))


def dead_channels(activation_absmax: Tensor, weight_absmax: Tensor) -> Tensor:
    """Bool `[in]`: channels that are never active, or that no weight reads."""
    return (activation_absmax <= DEAD_BELOW_MEDIAN * activation_absmax.median()) | (weight_absmax == 0)


def column_absmax(weights: Iterable[Tensor]) -> Tensor:
    """Absmax of every column over the rows of all `weights` `[out_i, in]` → fp32 `[in]`."""
    absmaxes = [weight.abs().amax(dim=0).float() for weight in weights]
    return torch.stack(absmaxes).amax(dim=0)
