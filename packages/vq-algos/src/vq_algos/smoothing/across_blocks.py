"""One smoothing vector for the inputs of all blocks, for runtimes in which no block can have one of its own.

Every block's smoother proposes an s; the one nearest to all of them in logarithms is their geometric mean. It is scaled
until its largest element is 1, so that no gain is smaller than 1: the modulated norm's 1 + [(1 + a)·g − 1] + p·g is
computed in bfloat16, and with a small g the sum in brackets would be close to −1 and lose most of its digits.

`auto` makes such a mean of every candidate, ranks them by the error over all blocks, and judges the best on held-out
tokens as it does for a single input: no linear of any block may become worse.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from vq_algos.smoothing.smoothers import auto, noise, smoother_named
from vq_algos.smoothing.smoothers.smoothquant import column_absmax, dead_channels
from vq_algos.smoothing.smoothing_error import Errors, joined, output_errors
from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem

KEPT = 8
"""Candidates that are judged: more than for one input, because every block can refuse them."""


def smoothing_across(problems: Collection[SmoothingProblem], method: str, options: SmootherOptions) -> Smoothing:
    """The s `[in]` that the smoother `method` gives all `problems`, which may be loaded anew in every iteration."""
    if method == "auto":
        return _best(problems)
    proposed = [smoother_named(method).smoothing(problem, options) for problem in problems]
    decisions = [it.decision.items() for it in proposed]
    common = {key: value for key, value in decisions[0] if all((key, value) in it for it in decisions)}
    return Smoothing(mean_of(it.s for it in proposed), common)


def mean_of(proposed: Iterable[Tensor]) -> Tensor:
    """Geometric mean of vectors `[in]`, scaled to a largest element of 1; ones if all are constant."""
    log_s = torch.stack([s.log() for s in proposed]).mean(dim=0)
    return (log_s - log_s.max()).exp()


def _best(problems: Collection[SmoothingProblem]) -> Smoothing:
    families = [auto.families(problem) for problem in problems]
    candidates = [replace(of_one[0], s=mean_of(it.s for it in of_one)) for of_one in zip(*families, strict=True)]
    objective = joined(_ranking(problem, candidates) for problem in problems).objective
    best = [candidates[index] for index in objective.argsort(stable=True).tolist()[:KEPT]]
    optimum = Smoothing(mean_of(_optimum(problem, best[0].s) for problem in problems), {"smoother": "noise"})
    kept = [Smoothing(torch.ones_like(optimum.s), {"smoother": "none"}), optimum, *best]
    return kept[auto.chosen(joined(_held_out(problem, kept) for problem in problems))]


def _ranking(problem: SmoothingProblem, candidates: list[Smoothing]) -> Errors:
    assert problem.fit is not None
    assert problem.scheme is not None
    tokens = auto.hardest(problem.fit, auto.RANKING_TOKENS)
    return output_errors(tokens, problem.weights, [it.s for it in candidates], problem.scheme)


def _held_out(problem: SmoothingProblem, candidates: list[Smoothing]) -> Errors:
    assert problem.held_out is not None
    assert problem.scheme is not None
    return output_errors(problem.held_out, problem.weights, [it.s for it in candidates], problem.scheme)


def _optimum(problem: SmoothingProblem, start: Tensor) -> Tensor:
    return noise.optimum(problem, start, dead_channels(problem.absmax, column_absmax(problem.weights))).s
