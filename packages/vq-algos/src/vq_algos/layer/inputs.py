"""Sampled tokens of a group's input: fit tokens to solve smoothing and rounding on, held-out tokens to judge by."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vq_algos.layer.hessian import Hessian
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.rotation import NONE, rotate
from vq_core.numerics.scheme import NumberFormat


@dataclass(frozen=True)
class Sampled:
    """Tokens of a group's input, exact and as the quantized linears read them; rotated where the weights are.

    Attributes:
        x: fp32 `[tokens, in]`, smoothed and centered: (x + mean)·Wᵀ with the weights in the same basis is the model's
            own output.
        x_hat: fp32 `[tokens, in]`, what the quantized linears multiply: smoothed, quantized per token, dequantized.
        weight: fp32 `[tokens]`, mean 1: how much a token counts.
        bucket: int64 `[tokens]`, bucket of sigma; −1 where the input does not depend on the noise level.
        mean: fp32 `[in]`, what centering has subtracted, in the same basis; None where nothing was.
    """

    x: Tensor
    x_hat: Tensor
    weight: Tensor
    bucket: Tensor
    mean: Tensor | None = None


@dataclass(frozen=True)
class LinearInputs:
    """The fit tokens of an input, and the held-out ones, from other prompts."""

    fit: Sampled
    held_out: Sampled

    @cached_property
    def hessian(self) -> Hessian:
        """H of the fit tokens."""
        return Hessian(self.fit.x_hat, self.fit.weight)


def sampled(
    tokens: Tokens, gain: Tensor, activation: NumberFormat, rotation: int = NONE, mean: Tensor | None = None
) -> Sampled:
    """The sampled `tokens` of a group that is smoothed by `gain` `[in]`, quantized as the runtime does.

    `rotation` channels are rotated together, after `mean` fp32 `[in]` has been subtracted from the smoothed ones.
    """
    smoothed = tokens.rows.float() * gain
    x = rotate(smoothed if mean is None else smoothed - mean, rotation)
    turned = None if mean is None else rotate(mean, rotation)
    return Sampled(x, dequantize(quantize_tokens(x, activation)), tokens.weight, tokens.bucket, turned)
