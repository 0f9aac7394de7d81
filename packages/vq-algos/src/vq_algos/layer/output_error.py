"""How far a quantized linear's output is from the model's own on held-out tokens, and how much worse a bucket may be.

The error of a linear is E = Σ_t w_t ‖x_t·Wᵀ − x̂_t·Ŵᵀ‖², summed in fp64 over all tokens and over those of each bucket of
sigma. It includes the quantization of both weights and activations.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vq_algos.layer.inputs import Sampled
from vq_core.sampling.schedule import BUCKETS

BUCKET_TOLERANCE = math.sqrt(1.02)
"""How much larger than round-to-nearest's the error in a bucket may be. Smoothing may add as much: 2 % in all."""


@dataclass(frozen=True)
class Energy:
    """Weighted squares of an output or of its error: Σ_t w_t ‖·‖² over all tokens and by bucket of sigma."""

    total: float
    buckets: tuple[float, ...]

    @classmethod
    def of(cls, y: Tensor, tokens: Sampled) -> Self:
        """Energy of `y` fp32 `[tokens, out]`."""
        each = tokens.weight.double() * y.square().sum(dim=1, dtype=torch.float64)
        # A product with the indicators of the buckets, because a scatter on CUDA adds in no fixed order.
        buckets = torch.arange(BUCKETS, device=y.device).unsqueeze(1) == tokens.bucket
        total, *by_bucket = torch.cat([each.sum().unsqueeze(0), buckets.double() @ each]).tolist()
        return cls(total, tuple(by_bucket))


class HeldOutError:
    """Judges quantized versions of one linear, `weight` fp32 `[out, in]`, on the tokens `held_out`."""

    def __init__(self, weight: Tensor, held_out: Sampled) -> None:
        self._weight = weight
        self._tokens = held_out
        self._output = held_out.x @ weight.T
        whole = self._output if held_out.mean is None else self._output + weight @ held_out.mean
        self.signal = Energy.of(whole, held_out)

    def error(self, dequantized: Tensor, shift: Tensor | None = None) -> Energy:
        """E of Ŵ = `dequantized` `[out, in]`, with `shift` `[out]` added to the bias."""
        output = self._tokens.x_hat @ dequantized.T
        return self._error_of(output if shift is None else output + shift)

    def weight_error(self, dequantized: Tensor) -> Energy:
        """E if only the weight is quantized: the error of x·Ŵᵀ."""
        return self._error_of(self._tokens.x @ dequantized.T)

    def activation_error(self) -> Energy:
        """E if only the activations are quantized: the error of x̂·Wᵀ."""
        return self._error_of(self._tokens.x_hat @ self._weight.T)

    def _error_of(self, output: Tensor) -> Energy:
        return Energy.of(output.sub_(self._output), self._tokens)


def spares_buckets(error: Energy, rtn: Energy, before: Energy | None = None) -> bool:
    """Is `error` within the tolerance of round-to-nearest's in every bucket?

    A bucket that exceeded the tolerance `before` a change must not get worse.
    """
    known = rtn.buckets if before is None else before.buckets
    limits = (max(BUCKET_TOLERANCE * plain, other) for plain, other in zip(rtn.buckets, known, strict=True))
    return all(bad <= limit for bad, limit in zip(error.buckets, limits, strict=True))


def snr_db(signal: float, noise: float) -> float | None:
    """10·log₁₀(signal / noise) with three decimals; None if there is no signal or no noise."""
    return round(10 * math.log10(signal / noise), 3) if signal > 0 and noise > 0 else None


def bucket_snr_db(signal: Energy, noise: Energy) -> list[float | None]:
    """SNR of each bucket; None where it has no tokens."""
    return [snr_db(*pair) for pair in zip(signal.buckets, noise.buckets, strict=True)]
