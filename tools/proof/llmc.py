"""LLMC's methods as LLMC computes them, to measure against; written from a description of what it does.

Everything is in bfloat16, because that is the dtype of the model that LLMC transforms in place: smoothed weights, their
scales, and w/scale before it is rounded. INT8 codes reach −128, FP8 is QPyTorch's. Its AWQ looks at one call of the
model after another, here one for each bucket of sigma, noisiest first as a sampler runs, and compares the running sum
of the errors with the best so far inside that loop: partial sums only grow, so the ratio that suits the first call is
kept. Each call is judged with its own scale; the mean of these scales is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_core.artifacts.stats import Tokens
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat, QuantScheme, Rounding

FLOOR = 1e-5
AWQ_FLOOR = 1e-4
RATIOS = tuple(step / 20 for step in range(20))


@dataclass(frozen=True)
class Transformed:
    """A model after LLMC: its norm multiplies by `gain` `[in]`, its linears are `weights`, dequantized, fp32."""

    gain: Tensor
    weights: list[Tensor]


def smoothquant(weights: Sequence[Tensor], fit: Tokens, scheme: QuantScheme, alpha: float) -> Transformed:
    """max|X|^α / max|W|^(1−α), over all tokens and all linears that read them."""
    columns = torch.stack([weight.abs().amax(dim=0) for weight in weights]).amax(dim=0).clamp(min=FLOOR)
    s = (fit.rows.abs().amax(dim=0).pow(alpha) / columns.pow(1 - alpha)).clamp(min=FLOOR)
    return transformed(weights, s, scheme)


def awq(weights: Sequence[Tensor], fit: Tokens, scheme: QuantScheme) -> Transformed:
    """Scales |X|^r (LLMC's v2) of the ratio that is best for the first call."""
    calls = [fit.rows[fit.bucket == bucket] for bucket in fit.bucket.unique().flip(0)]
    kept, least = RATIOS[0], torch.inf
    for ratio in RATIOS:
        total = 0.0
        for x in calls:
            total += _error(weights, x, _scale(x, ratio), scheme)
            if total < least:
                kept, least = ratio, total
    return transformed(weights, torch.stack([_scale(x, kept) for x in calls]).mean(dim=0), scheme)


def transformed(weights: Sequence[Tensor], s: Tensor, scheme: QuantScheme) -> Transformed:
    """`weights` bf16 with columns times s, rounded; the norm divides by s."""
    return Transformed(1 / s.float(), [rounded(weight * s, scheme.weight) for weight in weights])


def rounded(weight: Tensor, fmt: NumberFormat) -> Tensor:
    """`weight` bf16 `[out, in]` with bf16 scales → the dequantized weight, fp32."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=FLOOR) / fmt.qmax
    ratio = weight / scale
    if fmt is NumberFormat.INT8:
        codes = ratio.round().clamp(-fmt.qmax - 1, fmt.qmax)
    else:
        codes = round_to_codes(ratio.float(), fmt, Rounding.QTORCH)
    return codes.float() * scale.float()


def _scale(x: Tensor, ratio: float) -> Tensor:
    s = x.abs().mean(dim=0).pow(ratio).clamp(min=AWQ_FLOOR)
    return s / (s.max() * s.min()).sqrt()


def _error(weights: Sequence[Tensor], x: Tensor, s: Tensor, scheme: QuantScheme) -> float:
    after = transformed(weights, s, scheme)
    x_hat = dequantize(quantize_tokens(x, scheme.activation, after.gain))
    errors = [x.float() @ w.float().T - x_hat @ w_hat.T for w, w_hat in zip(weights, after.weights, strict=True)]
    return float(torch.cat(errors, dim=1).square().mean())
