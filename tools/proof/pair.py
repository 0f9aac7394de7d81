"""The feed-forward as a whole: both linears quantized, with and without the rescaling through GELU.

The rescaling changes the function itself, so its cost shows only in the output of the pair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from proof.figures import Relative, outputs, relative
from proof.methods import AUTO, GROUP, METHODS, ROTATED, ROTATION, RTN, Method, Solved, problem_of, rounded
from proof.synthetic import FeedForwardPair, Layer
from vq_algos.smoothing.gelu_rescale import FeedForward, rescaling
from vq_algos.smoothing.smoothers import smoother_named
from vq_algos.smoothing.smoothing_error import gain_of
from vq_algos.smoothing.smoothing_problem import SmootherOptions
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.rotation import NONE, largest_group
from vq_core.numerics.scheme import NumberFormat, QuantScheme


@dataclass(frozen=True)
class SolvedPair:
    """Both linears, and the bias fp32 `[hidden]` of the first before its shift."""

    up: Solved
    up_bias: Tensor
    down: Solved


PairMethod = Callable[[FeedForwardPair, QuantScheme], SolvedPair]


def apart(pair: FeedForwardPair, scheme: QuantScheme, method: Method) -> SolvedPair:
    """Each linear quantized alone."""
    return SolvedPair(method(up_layer(pair), scheme), pair.up_bias.float(), method(pair.down_layer, scheme))


def rescaled(pair: FeedForwardPair, scheme: QuantScheme, rotate: str = "none") -> SolvedPair:
    """`auto` as in `vq-algos`: rescaled through GELU where that reduces the error, and only in INT8.

    `rotate` is that of `vq-algos quantize`.
    """
    up, down = up_layer(pair), pair.down_layer
    gain = gain_of(smoother_named("auto").smoothing(problem_of(up, scheme), SmootherOptions()).s)
    hidden_gain = torch.ones(len(pair.up_bias))
    if scheme.activation is NumberFormat.INT8:
        absmax = problem_of(down, scheme).absmax
        fit, held_out = pair.draws.fit, pair.draws.held_out
        rotation = NONE if rotate == "none" else largest_group(len(absmax), GROUP)
        problem = FeedForward(pair.up, pair.up_bias, pair.down, gain, absmax, fit, held_out, scheme, rotation)
        hidden_gain = gain_of(rescaling(problem).s)
    up = replace(up, weights=(pair.up.float() * hidden_gain.unsqueeze(1),))
    return SolvedPair(
        rounded(up, scheme, gain, "auto", correct_bias=True, rotate=rotate, center=True),
        pair.up_bias.float() * hidden_gain,
        # The rows of the first linear hold the gain, so nothing multiplies what the second one reads.
        replace(
            rounded(down, scheme, hidden_gain, "auto", correct_bias=True, rotate=rotate),
            gain=torch.ones_like(hidden_gain),
        ),
    )


def pair_error(pair: FeedForwardPair, tokens: Tokens, solved: SolvedPair, scheme: QuantScheme) -> Relative:
    """The error of the feed-forward's output, as if it were one linear."""
    x = tokens.rows.double()
    hidden = F.gelu(F.linear(x, pair.up.double(), pair.up_bias.double()), approximate="tanh")
    (y,) = outputs(tokens.rows, solved.up, scheme)
    hidden_hat = F.gelu(y + solved.up_bias.double(), approximate="tanh").float()
    return relative([hidden @ pair.down.double().T], outputs(hidden_hat, solved.down, scheme), tokens.bucket)


def up_layer(pair: FeedForwardPair) -> Layer:
    """The first linear alone."""
    return Layer("ffn.0 of the pair", True, (pair.up,), pair.draws)


RESCALED = "auto, with the rescale"
RESCALED_AND_ROTATED = "auto, with the rescale and rotation"

PAIR_METHODS: Mapping[str, PairMethod] = {
    name: partial(apart, method=METHODS[name])
    for name in (RTN, "LLMC's SmoothQuant, α .5", "LLMC's AWQ", ROTATION, AUTO, ROTATED)
} | {RESCALED: rescaled, RESCALED_AND_ROTATED: partial(rescaled, rotate="auto")}
