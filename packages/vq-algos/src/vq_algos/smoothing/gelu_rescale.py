"""An approximate fold through GELU, for the input that has no exact one: the feed-forward's second linear.

With y the output of the first linear, a channel k of GELU(y) that is large but rare ruins the INT8 scale of its tokens.
Dividing row k of the first linear by s_k and multiplying column k of the second by it computes GELU(y_k/s_k)·s_k in the
place of GELU(y_k). Both are y_k far above zero and 0 far below, so they differ only around |y_k| < 3·s_k. If few
channels are rescaled, that costs less than the quantization noise it removes. For the `count` hottest channels

    s_k = max(1, max|GELU(y_k)| / t)^p,    t the absmax of the hottest channel that is left alone;

`count` and p are chosen on fit tokens by the error of the second linear. The best candidates are judged on held-out
tokens by the error of the whole feed-forward, both linears quantized, and must pass the guard of `smoothers.auto`
against no rescaling. Where the runtime can rotate the second linear's input, all are judged with it rotated. The
function changes, so only `auto` uses this, and only in INT8: hot channels hardly hurt FP8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vq_algos.smoothing.smoothers.auto import chosen, hardest
from vq_algos.smoothing.smoothing_error import Errors, by_bucket, gain_of, product, row_energies
from vq_algos.smoothing.smoothing_problem import Smoothing
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import QuantScheme

POWERS = (0.5, 0.75, 1.0)
SMALLEST = 4
LARGEST_SHARE = 8  # at most every eighth channel
SEARCH_TOKENS = 512
KEPT = 3


@dataclass(frozen=True)
class FeedForward:
    """The two linears around GELU and what the first one reads.

    Attributes:
        up: weight `[hidden, in]` of the first linear, unsmoothed.
        up_bias: `[hidden]`.
        down: weight `[out, hidden]` of the second.
        gain: fp32 `[in]`, 1/s of the first linear's input.
        absmax: fp32 `[hidden]`, absmax of the second linear's input over all tokens.
        fit, held_out: tokens that the first linear reads, unsmoothed.
        scheme: the formats of both linears.
        rotation: how many channels of the second linear's input the runtime rotates together; 1 for none.
    """

    up: Tensor
    up_bias: Tensor
    down: Tensor
    gain: Tensor
    absmax: Tensor
    fit: Tokens
    held_out: Tokens
    scheme: QuantScheme
    rotation: int = NONE


def rescaling(problem: FeedForward) -> Smoothing:
    """s fp32 `[hidden]`, or ones if rescaling lowers no error; see the module."""
    candidates = _candidates(problem.absmax)
    search = hardest(problem.fit, SEARCH_TOKENS)
    errors = feed_forward_errors(problem, search, [candidate.s for candidate in candidates], first_linear=False)
    order = errors.objective[1:].argsort(stable=True).tolist()[:KEPT]
    kept = [candidates[0], *(candidates[1 + index] for index in order)]
    return kept[chosen(feed_forward_errors(problem, problem.held_out, [candidate.s for candidate in kept]))]


def feed_forward_errors(
    problem: FeedForward, tokens: Tokens, candidates: Sequence[Tensor], *, first_linear: bool = True
) -> Errors:
    """Errors of the output of the feed-forward for every s `[hidden]` of `candidates`.

    The second linear is quantized, and the first one if `first_linear`.
    """
    x = tokens.rows.float()
    y = product(x, problem.up) + problem.up_bias.float()
    reference = product(gelu(y), problem.down)
    if first_linear:
        x_hat = dequantize(quantize_tokens(x, problem.scheme.activation, problem.gain))
        # A scale per row absorbs the factor of its row but for rounding up to bfloat16: the rounded rows serve every s.
        y = product(x_hat, problem.up, problem.gain, problem.scheme.weight) + problem.up_bias.float()

    def error(s: Tensor) -> Tensor:
        gain = gain_of(s)
        hidden = dequantize(quantize_tokens(gelu(y * gain), problem.scheme.activation, group=problem.rotation))
        return reference - product(hidden, problem.down, gain, problem.scheme.weight, problem.rotation)

    buckets, weight_in_bucket = by_bucket(tokens)
    noise = torch.stack([weight_in_bucket @ row_energies(error(s)) for s in candidates])
    return Errors(noise.unsqueeze(1), (weight_in_bucket @ row_energies(reference)).unsqueeze(0), buckets)


def _candidates(absmax: Tensor) -> list[Smoothing]:
    """No rescaling, then every count of channels and power."""
    candidates = [Smoothing(torch.ones_like(absmax), {"smoother": "none"})]
    hottest = absmax.argsort(descending=True, stable=True)
    count = SMALLEST
    while count <= len(absmax) // LARGEST_SHARE and absmax[hottest[count]] > 0:
        rescaled = hottest[:count]
        excess = (absmax[rescaled] / absmax[hottest[count]]).clamp(min=1)
        for power in POWERS:
            s = torch.ones_like(absmax)
            s[rescaled] = excess**power
            candidates.append(Smoothing(s, {"smoother": "gelu_rescale", "channels": count, "power": power}))
        count *= 2
    return candidates


def gelu(y: Tensor) -> Tensor:
    """Wan's GELU, the approximation by tanh."""
    return F.gelu(y, approximate="tanh")
