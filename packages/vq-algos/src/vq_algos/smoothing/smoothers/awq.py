"""AWQ (Lin et al., 2023, arXiv 2306.00978) for weights and activations: a one-parameter family of s, searched.

With a the mean magnitude of the input's channels and w the mean over rows of |W| relative to its row's absmax,

    v1: s = a^r / w^(1−r),    v2: s = a^r,    then s / √(max s · min s),

for r = 0, 0.05, …, 0.95. The ratio with the least output error wins, with activations quantized per token as in the
runtime. The family is LLMC's. The search is not: LLMC keeps the best ratio of the first sample and judges each sample
with a scale of its own; here every sampled token of every prompt and timestep counts, with the scale that is finally
used.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from vq_algos.smoothing.smoothers.smoothquant import column_absmax, dead_channels
from vq_algos.smoothing.smoothing_error import output_errors
from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem

NEEDS = frozenset({"statistics", "tokens", "scheme"})

RATIOS = tuple(step / 20 for step in range(20))
VERSIONS = ("v1", "v2")
FLOOR = 1e-4


def smoothing(problem: SmoothingProblem, options: SmootherOptions) -> Smoothing:
    """The s `[in]` of the best ratio on the fit tokens."""
    assert problem.fit is not None
    assert problem.scheme is not None
    candidates = family(problem, options.awq_version)
    errors = output_errors(problem.fit, problem.weights, list(candidates.values()), problem.scheme)
    ratio = list(candidates)[int(errors.objective.argmin())]
    return Smoothing(candidates[ratio], {"awq_version": options.awq_version, "ratio": ratio})


def family(problem: SmoothingProblem, version: str) -> dict[float, Tensor]:
    """s `[in]` of every ratio; dead channels keep s = 1."""
    magnitude = problem.mean_abs
    typical = relative_magnitude(problem.weights) if version == "v1" else None
    dead = dead_channels(problem.absmax, column_absmax(problem.weights))
    return {ratio: _scale(magnitude, typical, ratio, dead) for ratio in RATIOS}


def relative_magnitude(weights: Iterable[Tensor]) -> Tensor:
    """Mean over rows of |W| / absmax of the row, then over linears: fp32 `[in]`."""
    means = []
    for weight in weights:
        magnitude = weight.float().abs()
        means.append((magnitude / magnitude.amax(dim=1, keepdim=True).clamp(min=FLOOR)).mean(dim=0))
    return torch.stack(means).mean(dim=0)


def _scale(magnitude: Tensor, typical: Tensor | None, ratio: float, dead: Tensor) -> Tensor:
    s = magnitude.pow(ratio)
    if typical is not None:
        s = s / typical.clamp(min=FLOOR).pow(1 - ratio)
    s = s.clamp(min=FLOOR)
    alive = s[~dead] if bool((~dead).any()) else s
    return torch.where(dead, torch.ones_like(s), s / (alive.max() * alive.min()).sqrt())
