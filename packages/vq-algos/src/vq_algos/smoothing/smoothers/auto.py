"""For each group the best candidate of all smoothers, never worse than no smoothing.

Candidates are s = 1, SmoothQuant's for α = 0.05 … 1, AWQ's for r = 0 … 0.95 (v2), and the optimum of the noise model
that starts from the best of these. They are ranked by output error on a part of the fit tokens. The best are judged on
held-out tokens with the quantizers of the runtime, where the winner must

* give no linear of the group a larger error than s = 1 does, and
* in no bucket of sigma an error larger by more than `vq_algos.layer.output_error.BUCKET_TOLERANCE`.

If no candidate passes, s stays 1.
"""

from dataclasses import replace

import torch
from torch import Tensor

from vq_algos.layer.output_error import BUCKET_TOLERANCE
from vq_algos.smoothing.smoothers import awq, noise
from vq_algos.smoothing.smoothers.smoothquant import column_absmax, dead_channels, migration
from vq_algos.smoothing.smoothing_error import Errors, output_errors
from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem
from vq_core.artifacts.stats import Tokens

NEEDS = frozenset({"statistics", "tokens", "scheme"})

ALPHAS = tuple(step / 20 for step in range(1, 21))
RANKING_TOKENS = 512
KEPT = 4


def smoothing(problem: SmoothingProblem, options: SmootherOptions) -> Smoothing:
    """The best candidate that passes the guard; its `decision` says which one."""
    assert problem.fit is not None
    assert problem.held_out is not None
    assert problem.scheme is not None
    candidates = families(problem)
    ranking = hardest(problem.fit, RANKING_TOKENS)
    objective = output_errors(ranking, problem.weights, [c.s for c in candidates], problem.scheme).objective
    best = [candidates[index] for index in objective.argsort(stable=True).tolist()[:KEPT]]
    columns = column_absmax(problem.weights)
    optimum = noise.optimum(problem, best[0].s, dead_channels(problem.absmax, columns))
    identity = Smoothing(torch.ones_like(problem.absmax), {"smoother": "none"})
    kept = [identity, replace(optimum, decision={"smoother": "noise"}), *best]
    errors = output_errors(problem.held_out, problem.weights, [candidate.s for candidate in kept], problem.scheme)
    return kept[chosen(errors)]


def chosen(errors: Errors) -> int:
    """Index of the candidate with the smallest objective among those that pass the guard; the first is the baseline."""
    objective = torch.where(passes(errors), errors.objective, torch.inf)
    return int(objective.argmin())


def passes(errors: Errors) -> Tensor:
    """Bool `[candidates]`: is no linear worse than with the first candidate, and none much worse in any bucket?"""
    total = errors.noise.sum(dim=-1)
    overall = (total <= total[0]).all(dim=-1)
    in_buckets = (errors.noise <= BUCKET_TOLERANCE * errors.noise[0]).all(dim=-1).all(dim=-1)
    return overall & in_buckets


def hardest(tokens: Tokens, count: int) -> Tokens:
    """At most `count` of the tokens: half evenly spread, half those with the largest crest (absmax over rms)."""
    if len(tokens.rows) <= count:
        return tokens
    spread = torch.arange(count // 2, device=tokens.rows.device) * len(tokens.rows) // (count // 2)
    x = tokens.rows.float()
    crest = x.abs().amax(dim=1) / x.square().mean(dim=1).sqrt().clamp(min=1e-30)
    crest[spread] = -1
    keep = torch.cat([spread, crest.argsort(descending=True, stable=True)[: count - count // 2]])
    return Tokens(tokens.rows[keep], tokens.weight[keep], tokens.bucket[keep])


def families(problem: SmoothingProblem) -> list[Smoothing]:
    """The candidates of SmoothQuant and of AWQ, the same ones for every input."""
    columns = column_absmax(problem.weights)
    smoothquant = [
        Smoothing(migration(problem.absmax, columns, alpha), {"smoother": "smoothquant", "alpha": alpha})
        for alpha in ALPHAS
    ]
    awq_family = [Smoothing(s, {"smoother": "awq", "ratio": ratio}) for ratio, s in awq.family(problem, "v2").items()]
    return smoothquant + awq_family
