"""How far quantized linears are from the originals, in fp64 and by a formula of our own, not by the packages' judge."""

import math
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
    """Y = X·Wᵀ against Ŷ = Q(X·gain)·Ŵᵀ + shift, with Q the runtime's quantization of every token."""
    x = tokens.rows.double()
    x_hat = dequantize(quantize_tokens(tokens.rows, scheme.activation, solved.gain)).double()
    linears, buckets = [], []
    for weight, quantized, shift in zip(layer.weights, solved.weights, solved.shifts, strict=True):
        y_hat = x_hat @ quantized.double().T + (0 if shift is None else shift.double())
        whole, parts = ratios(x @ weight.double().T, y_hat, tokens.bucket)
        linears.append(whole)
        buckets.append(parts)
    return Relative(tuple(linears), tuple(buckets))


def ratios(y: Tensor, y_hat: Tensor, bucket: Tensor) -> tuple[float, tuple[float, ...]]:
    """Noise over signal of the outputs `[tokens, out]`, over all tokens and by bucket."""
    signal, noise = y.square().sum(dim=1), (y - y_hat).square().sum(dim=1)
    by_bucket = (torch.stack([part[bucket == b].sum() for b in range(BUCKETS)]) for part in (noise, signal))
    return float(noise.sum() / signal.sum()), tuple(torch.div(*by_bucket).tolist())
