"""The error of quantized linears in fp64, by a formula of its own, not by the packages' code."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proof.methods import Solved
from proof.synthetic import Layer
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.scheme import QuantScheme
from vq_core.sampling.schedule import BUCKETS


@dataclass(frozen=True)
class Relative:
    """‖Y − Ŷ‖² / ‖Y‖² over some tokens.

    Attributes:
        linears: of each linear.
        buckets: of each linear, over the tokens of each bucket of sigma.
    """

    linears: tuple[float, ...]
    buckets: tuple[tuple[float, ...], ...]

    @property
    def snr_db(self) -> float:
        """Output signal-to-noise ratio of the mean over the linears."""
        return -10 * math.log10(sum(self.linears) / len(self.linears))


def relative_error(layer: Layer, tokens: Tokens, solved: Solved, scheme: QuantScheme) -> Relative:
    """Y = X·Wᵀ against Ŷ of the quantized linears."""
    x = tokens.rows.double()
    exact = [x @ weight.double().T for weight in layer.weights]
    return relative(exact, outputs(tokens.rows, solved, scheme), tokens.bucket)


def outputs(x: Tensor, solved: Solved, scheme: QuantScheme) -> list[Tensor]:
    """Ŷ = Q(X·gain − mean)·Ŵᵀ + shift of each linear, fp64, with Q the runtime's quantization of every token."""
    read = x.float() * solved.gain - (0 if solved.mean is None else solved.mean)
    x_hat = dequantize(quantize_tokens(read, scheme.activation, None, solved.rotation)).double()
    linears = zip(solved.weights, solved.shifts, strict=True)
    return [x_hat @ weight.double().T + (0 if shift is None else shift.double()) for weight, shift in linears]


def relative(exact: Sequence[Tensor], found: Sequence[Tensor], bucket: Tensor) -> Relative:
    """Noise over signal of the outputs `[tokens, out]` of each linear, over all tokens and by bucket."""
    linears, buckets = [], []
    for y, y_hat in zip(exact, found, strict=True):
        noise, signal = (y - y_hat).square().sum(dim=1), y.square().sum(dim=1)
        by_bucket = (torch.stack([part[bucket == b].sum() for b in range(BUCKETS)]) for part in (noise, signal))
        linears.append(float(noise.sum() / signal.sum()))
        buckets.append(tuple(torch.div(*by_bucket).tolist()))
    return Relative(tuple(linears), tuple(buckets))
