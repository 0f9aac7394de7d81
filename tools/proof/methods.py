"""The rows of the tables: every method as a function from a layer and a scheme to quantized linears.

All of them see the fit and held-out tokens alone. Ours are the packages' own functions, put together as `vq-algos`
does; only LLMC's are written out, in `llmc.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from proof import llmc
from proof.synthetic import Layer
from vq_algos.layer.inputs import LinearInputs, sampled
from vq_algos.rounding.basis import Basis, rotated_basis
from vq_algos.rounding.basis import rounded as rounded_in_basis
from vq_algos.rounding.bias_and_score import correct_and_score
from vq_algos.rounding.rounders import rounder_named
from vq_algos.smoothing.smoothers import smoother_named
from vq_algos.smoothing.smoothing_error import gain_of
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem
from vq_core.numerics.quantize import dequantize
from vq_core.numerics.rotation import NONE, largest_group
from vq_core.numerics.rotation import rotate as turn
from vq_core.numerics.scheme import QuantScheme, Rounding


@dataclass(frozen=True)
class Solved:
    """Quantized linears that read one input.

    Attributes:
        gain: fp32 `[in]`, multiplies the input before its tokens are quantized.
        weights: fp32 `[out_i, in]`, dequantized.
        shifts: fp32 `[out_i]`, added to the biases; None for no correction.
        rotation: how many channels of the tokens are rotated together before they are quantized; 1 for none.
        mean: fp32 `[in]`, subtracted from the tokens before they are rotated; None for none.
    """

    gain: Tensor
    weights: Sequence[Tensor]
    shifts: Sequence[Tensor | None]
    rotation: int = NONE
    mean: Tensor | None = None


Method = Callable[[Layer, QuantScheme], Solved]


def ours(
    layer: Layer,
    scheme: QuantScheme,
    *,
    smoother: str = "none",
    rounder: str = "rtn",
    options: SmootherOptions | None = None,
    correct_bias: bool = False,
    rotate: str = "none",
    center: bool = False,
) -> Solved:
    """Smoothing by `smoother` where the layer has a fold, rounding by `rounder`, and the bias where asked for.

    `rotate` and `center` are those of `vq-algos quantize`; centering needs a fold as well.
    """
    problem = problem_of(layer, scheme)
    name = smoother if layer.foldable else "none"
    smoothing = smoother_named(name).smoothing(problem, options or SmootherOptions())
    center = center and layer.foldable
    gain = gain_of(smoothing.s)
    return rounded(layer, scheme, gain, rounder, correct_bias=correct_bias, rotate=rotate, center=center)


def rounded(
    layer: Layer,
    scheme: QuantScheme,
    gain: Tensor,
    rounder: str,
    *,
    correct_bias: bool,
    rotate: str = "none",
    center: bool = False,
) -> Solved:
    """The linears of `layer` smoothed by `gain` `[in]`, and rounded in the basis that `rotate` leads to."""
    group = largest_group(len(gain), GROUP)
    basis_of = partial(_basis, layer, scheme, gain)
    fit = layer.draws.fit
    mean = (fit.weight / fit.weight.sum()) @ (fit.rows.float() * gain) if center else None
    basis, found, nearest = rounded_in_basis(
        rotate, basis_of, group, mean, rounder_named(rounder), scheme, Rounding.NEAREST_EVEN
    )
    assert basis.inputs is not None
    weights = [one.quantized for one in found]
    shifts: list[Tensor | None] = [None] * len(weights)
    if basis.mean is not None:
        turned = turn(basis.mean, basis.rotation)
        shifts = [weight @ turned for weight in basis.weights]
    elif correct_bias:
        pairs = zip(basis.weights, map(dequantize, weights), nearest, strict=True)
        shifts = [
            correct_and_score(w, w_hat, basis.inputs, error, correct_bias=True).shift for w, w_hat, error in pairs
        ]
    back = [dequantize(weight._replace(rotation=basis.rotation)) for weight in weights]
    return Solved(gain, back, shifts, basis.rotation, basis.mean)


def _basis(layer: Layer, scheme: QuantScheme, gain: Tensor, rotation: int, mean: Tensor | None) -> Basis:
    draws = (layer.draws.fit, layer.draws.held_out)
    inputs = LinearInputs(*(sampled(part, gain, scheme.activation, rotation, mean) for part in draws))
    return rotated_basis([weight.float() / gain for weight in layer.weights], inputs, rotation, mean)


def problem_of(layer: Layer, scheme: QuantScheme) -> SmoothingProblem:
    """The input of a smoother, with the statistics of the fit tokens."""
    magnitude = layer.draws.fit.rows.float().abs()
    absmax, mean_abs = magnitude.amax(dim=0), magnitude.mean(dim=0)
    return SmoothingProblem(layer.weights, absmax, mean_abs, layer.draws.fit, layer.draws.held_out, scheme)


def _llmc(layer: Layer, scheme: QuantScheme, transform: Callable[..., llmc.Transformed]) -> Solved:
    """LLMC smooths linears behind a norm, and only rounds the others."""
    if layer.foldable:
        after = transform(layer.weights, layer.draws.fit, scheme)
    else:
        ones = torch.ones(layer.weights[0].shape[1], dtype=torch.bfloat16)
        after = llmc.transformed(layer.weights, ones, scheme)
    return Solved(after.gain, after.weights, [None] * len(after.weights))


def _smoothquant(alpha: float) -> partial[Solved]:
    return partial(ours, smoother="smoothquant", options=SmootherOptions(alpha=alpha))


RTN = "RTN"
REFERENCE = "smoothquant, α .5"
ROTATION = "rotation"
CENTERED = "centered"
AUTO = "auto"
ROTATED = "auto, with rotation"
GROUP = 256

GROUPED_METHODS = ("RTN", "smoothquant, α .5", "gptq", "smoothquant, α .5 + gptq", "auto")
"""Those of schemes with groups, which are always rotated."""

METHODS: Mapping[str, Method] = {
    RTN: ours,
    "LLMC's SmoothQuant, α .5": partial(_llmc, transform=partial(llmc.smoothquant, alpha=0.5)),
    "LLMC's SmoothQuant, α .75": partial(_llmc, transform=partial(llmc.smoothquant, alpha=0.75)),
    "LLMC's AWQ": partial(_llmc, transform=llmc.awq),
    REFERENCE: _smoothquant(0.5),
    "smoothquant, α .75": _smoothquant(0.75),
    "awq v1": partial(ours, smoother="awq", options=SmootherOptions(awq_version="v1")),
    "awq v2": partial(ours, smoother="awq"),
    "noise": partial(ours, smoother="noise"),
    "clip": partial(ours, rounder="clip"),
    "gptq": partial(ours, rounder="gptq"),
    "smoothquant, α .5 + gptq": partial(_smoothquant(0.5), rounder="gptq"),
    ROTATION: partial(ours, rotate="all"),
    "rotation + gptq": partial(ours, rounder="gptq", rotate="all"),
    CENTERED: partial(ours, center=True),
    AUTO: partial(ours, smoother="auto", rounder="auto", correct_bias=True, center=True),
    ROTATED: partial(ours, smoother="auto", rounder="auto", correct_bias=True, rotate="auto", center=True),
}
