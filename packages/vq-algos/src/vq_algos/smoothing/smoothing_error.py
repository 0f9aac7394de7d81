"""What quantization costs the linears of a group under a smoothing vector, on sampled tokens.

For tokens X with weights w_t, a linear W and candidates s: the error Σ_t w_t ‖x_t Wᵀ − Qa(x_t/s) Qw(W·s)ᵀ‖² with the
quantizers of the runtime, weights rounded to nearest. Every runtime multiplies by a bfloat16 gain, and the weights are
folded with exactly that gain, so s is first replaced by 1 / bf16(1/s).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_core.artifacts.stats import Tokens
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.quantize import dequantize, quantize_tokens, quantize_weight
from vq_core.numerics.rotation import NONE, rotate
from vq_core.numerics.scheme import NumberFormat, QuantScheme

ROWS_AT_ONCE = 2048
"""Rows of a weight that are held in fp32."""


@dataclass(frozen=True)
class Errors:
    """Sums over tokens, weighted, by linear and bucket of sigma.

    Attributes:
        noise: fp64 `[candidates, linears, buckets]`.
        signal: fp64 `[linears, buckets]`, Σ_t w_t ‖x_t Wᵀ‖².
        buckets: which buckets of sigma these are, rising; (−1,) where the input does not depend on it.
    """

    noise: Tensor
    signal: Tensor
    buckets: tuple[int, ...]

    @property
    def objective(self) -> Tensor:
        """Mean over the linears of noise over signal, fp64 `[candidates]`: every linear counts alike."""
        relative = self.noise.sum(dim=-1) / self.signal.sum(dim=-1).clamp(min=torch.finfo(torch.float64).tiny)
        return relative.mean(dim=-1)


def joined(errors: Iterable[Errors]) -> Errors:
    """The errors of the same candidates for the linears of several inputs, whose tokens are of the same buckets."""
    parts = list(errors)
    (buckets,) = {part.buckets for part in parts}
    return Errors(torch.cat([it.noise for it in parts], dim=1), torch.cat([it.signal for it in parts]), buckets)


def gain_of(s: Tensor) -> Tensor:
    """1/s as the runtime stores it: the nearest bfloat16 value, as fp32."""
    return nearest_bf16(1 / s)


def output_errors(
    tokens: Tokens,
    weights: Iterable[Tensor],
    candidates: Sequence[Tensor],
    scheme: QuantScheme,
    *,
    activations: bool = True,
    rounded: bool = True,
) -> Errors:
    """Errors of every candidate s `[in]` for every linear `[out_i, in]`; weights are read one at a time.

    `activations` and `rounded` say whether the activations and the weights are quantized.
    """
    x = tokens.rows.float()
    buckets, weight_in_bucket = by_bucket(tokens)
    gains = [gain_of(s) for s in candidates]

    def error(weight: Tensor, reference: Tensor, gain: Tensor) -> Tensor:
        smoothed = x * gain
        x_hat = dequantize(quantize_tokens(smoothed, scheme.activation)) if activations else smoothed
        return reference.sub(product(x_hat, weight, gain, scheme.weight if rounded else None))

    noise, signal = [], []
    for weight in weights:
        reference = product(x, weight)
        signal.append(weight_in_bucket @ row_energies(reference))
        noise.append(torch.stack([weight_in_bucket @ row_energies(error(weight, reference, gain)) for gain in gains]))
    return Errors(torch.stack(noise, dim=1), torch.stack(signal), buckets)


def product(
    x: Tensor, weight: Tensor, gain: Tensor | None = None, fmt: NumberFormat | None = None, rotation: int = NONE
) -> Tensor:
    """x·(W / gain)ᵀ, rounded to nearest in `fmt` where one is given: fp32 `[tokens, out]`.

    With a `rotation` the rotated weight is rounded, and rotated back. A few rows of W at a time, because the fp32
    temporaries of a whole weight would take more memory than all else.
    """

    def folded(rows: Tensor) -> Tensor:
        smoothed = rows.float() if gain is None else rows.float() / gain
        if fmt is None:
            return smoothed
        return dequantize(quantize_weight(rotate(smoothed, rotation), fmt)._replace(rotation=rotation))

    return torch.cat([x @ folded(rows).t() for rows in weight.split(ROWS_AT_ONCE)], dim=1)


def by_bucket(tokens: Tokens) -> tuple[tuple[int, ...], Tensor]:
    """The buckets that occur, and each token's weight in the row of its bucket: fp64 `[buckets, tokens]`.

    A product with it sums over tokens by bucket. Its order is the same on every run, unlike that of a scatter on CUDA.
    """
    buckets = torch.unique(tokens.bucket)
    inside = tokens.bucket == buckets.unsqueeze(1)
    return tuple(buckets.tolist()), inside.double() * tokens.weight.double()


def row_energies(x: Tensor) -> Tensor:
    """Σ_k x_tk² of every row, fp64 `[rows]`."""
    return x.square().sum(dim=-1, dtype=torch.float64)
