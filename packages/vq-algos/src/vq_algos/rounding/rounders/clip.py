"""Clipping: per row, the reduced absmax scale with the least output error.

For row w and a factor p of 1.0, 0.95, …, 0.6 (the range that LLMC searches): s_p = p·absmax(w) / qmax, rounded up to
bfloat16, and ŵ_p = s_p·round(w / s_p), saturated. The p with the least Σ_t w_t (x̂_t·(w − ŵ_p))² on the quantized
inputs is taken, the largest such p if several are equal.

Where groups of a row have scales, the row's is that of its absmax, and each group's is searched: a factor of 1.1, 1.05,
…, 0.6 with the least Σ_k (w_k − ŵ_k)². The inputs are rotated then, so that no channel matters more than the others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vq_algos.layer.hessian import Hessian
from vq_algos.layer.inputs import LinearInputs
from vq_algos.rounding.rounders import Rounded
from vq_core.numerics.grouped import GROUP, group_scale, nearest_codes
from vq_core.numerics.quantize import Groups, Quantized, dequantize, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat, QuantScheme, Rounding

NEEDS_TOKENS = True

FACTORS = tuple(1 - step / 20 for step in range(9))
GROUP_FACTORS = tuple(1.1 - step / 20 for step in range(11))
GROUPED_ROWS = 512
ROWS_AT_ONCE = 2048
"""Limits the temporaries to a few times `[rows, in]` and `[tokens, rows]`."""


def quantize(
    weights: Sequence[Tensor], inputs: LinearInputs | None, scheme: QuantScheme, rounding: Rounding
) -> list[Rounded]:
    """Codes and scales of `weights` `[out_i, in]`; `decision["clip"]` is the median of the rows' or groups' factors."""
    assert inputs is not None
    if scheme.grouped:
        return [_clipped_groups(weight, scheme.bits) for weight in weights]
    return [_clipped(weight, inputs.hessian, scheme.weight, rounding) for weight in weights]


def _clipped_groups(weight: Tensor, bits: int) -> Rounded:
    scale = weight_scale(weight, NumberFormat.INT8)
    groups, factors = least_error_groups(weight, scale, bits)
    return Rounded(nearest_codes(weight, scale, groups), {"method": "clip", "clip": round(float(factors.median()), 3)})


def least_error_groups(weight: Tensor, scale: Tensor, bits: int) -> tuple[Groups, Tensor]:
    """The groups of `weight` fp32 `[out, in]` with the least error at the rows' `scale` `[out, 1]`.

    Returns their factors fp32 `[out, in/16]`, too.
    """
    parts = [
        _group_factors(rows, row_scale, bits)
        for rows, row_scale in zip(weight.split(GROUPED_ROWS), scale.split(GROUPED_ROWS), strict=True)
    ]
    factors = torch.cat(parts)
    return Groups(group_scale(weight, scale, bits, factors), bits), factors


def _group_factors(rows: Tensor, scale: Tensor, bits: int) -> Tensor:
    least = torch.full((len(rows), rows.shape[1] // GROUP), torch.inf, device=rows.device)
    best = torch.ones_like(least)
    for factor in GROUP_FACTORS:
        groups = Groups(group_scale(rows, scale, bits, factor), bits)
        difference = rows - dequantize(nearest_codes(rows, scale, groups))
        error = difference.square_().unflatten(1, (-1, GROUP)).sum(dim=-1)
        best.masked_fill_(error < least, factor)
        least = torch.minimum(least, error)
    return best


def _clipped(weight: Tensor, hessian: Hessian, fmt: NumberFormat, rounding: Rounding) -> Rounded:
    absmax = weight.abs().amax(dim=1, keepdim=True)
    chosen = torch.cat(
        [
            _factors(rows, maxima, hessian, fmt, rounding)
            for rows, maxima in zip(weight.split(ROWS_AT_ONCE), absmax.split(ROWS_AT_ONCE), strict=True)
        ]
    )
    scale = weight_scale(absmax * chosen.unsqueeze(1), fmt)
    codes = round_to_codes(weight / scale, fmt, rounding)
    return Rounded(Quantized(codes, scale), {"method": "clip", "clip": round(float(chosen.median()), 3)})


def _factors(rows: Tensor, absmax: Tensor, hessian: Hessian, fmt: NumberFormat, rounding: Rounding) -> Tensor:
    """The best factor of every row of `rows` `[n, in]` → fp32 `[n]`."""
    errors = []
    for factor in FACTORS:
        scale = weight_scale(absmax * factor, fmt)
        rounded = dequantize(Quantized(round_to_codes(rows / scale, fmt, rounding), scale))
        errors.append(hessian.errors(rows - rounded))
    return torch.tensor(FACTORS, device=rows.device)[torch.stack(errors).argmin(dim=0)]
