"""What smoothing gained for a group: SNRs on held-out tokens with the quantizers of the runtime.

Each is the SNR of the outputs in dB, from the mean of noise over signal over the linears that read the input, weights
rounded to nearest.
"""

import math
from collections.abc import Collection

import torch
from torch import Tensor

from vq_algos.smoothing.gelu_rescale import FeedForward, feed_forward_errors
from vq_algos.smoothing.smoothing_error import Errors, joined, output_errors
from vq_algos.smoothing.smoothing_problem import SmoothingProblem
from vq_core.sampling.schedule import BUCKETS

Figure = float | None | list[float | None]


def figures(problems: Collection[SmoothingProblem], s: Tensor) -> dict[str, Figure]:
    """Figures of `s` `[in]` for one input or several; empty if there are no held-out tokens or no scheme.

    `unsmoothed_snr_db` and `output_snr_db` are before and after smoothing, `activation_snr_db` and
    `weight_only_snr_db` after it with one of the two quantized, `bucket_snr_db` is `output_snr_db` by bucket of sigma,
    null in buckets without tokens. Any other null means no signal or no noise.
    """
    found = []
    for problem in problems:
        held_out, weights, scheme = problem.held_out, problem.weights, problem.scheme
        if held_out is None or scheme is None or not len(held_out.rows):
            return {}
        both = output_errors(held_out, weights, [torch.ones_like(s), s], scheme)
        activations = output_errors(held_out, weights, [s], scheme, rounded=False)
        found.append((both, activations, output_errors(held_out, weights, [s], scheme, activations=False)))
    both, activations, rounded = map(joined, zip(*found, strict=True))
    return {
        "unsmoothed_snr_db": snr_db(float(both.objective[0])),
        "output_snr_db": snr_db(float(both.objective[1])),
        "activation_snr_db": snr_db(float(activations.objective[0])),
        "weight_only_snr_db": snr_db(float(rounded.objective[0])),
        "bucket_snr_db": bucket_snr_db(both, 1),
    }


def feed_forward_figures(problem: FeedForward, s: Tensor) -> dict[str, Figure]:
    """Figures of a rescaling through GELU, `s` `[hidden]`: of the whole feed-forward, both linears quantized."""
    errors = feed_forward_errors(problem, problem.held_out, [torch.ones_like(s), s])
    return {
        "unsmoothed_snr_db": snr_db(float(errors.objective[0])),
        "output_snr_db": snr_db(float(errors.objective[1])),
        "bucket_snr_db": bucket_snr_db(errors, 1),
    }


def bucket_snr_db(errors: Errors, candidate: int) -> list[float | None]:
    """SNR in every bucket of sigma; None in buckets without tokens, and in all if the input does not depend on it."""
    tiny = torch.finfo(torch.float64).tiny
    relative = (errors.noise[candidate] / errors.signal.clamp(min=tiny)).mean(dim=0).tolist()
    found = dict(zip(errors.buckets, relative, strict=True))
    return [snr_db(found[bucket]) if bucket in found else None for bucket in range(BUCKETS)]


def snr_db(relative_noise: float) -> float | None:
    """−10·log₁₀ with three decimals; None if that is not finite."""
    return round(-10 * math.log10(relative_noise), 3) if 0 < relative_noise < math.inf else None
