"""Clipping: per row, the reduced absmax scale with the least output error.

For row w and a factor p of 1.0, 0.95, …, 0.6 (the range that LLMC searches): s_p = p·absmax(w) / qmax, rounded up to
bfloat16, and ŵ_p = s_p·round(w / s_p), saturated. The p with the least Σ_t w_t (x̂_t·(w − ŵ_p))² on the quantized
inputs is taken, the largest such p if several are equal.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vq_algos.layer.hessian import Hessian
from vq_algos.layer.inputs import LinearInputs
from vq_algos.rounding.rounders import Rounded
from vq_core.numerics.quantize import Quantized, dequantize, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat, Rounding

NEEDS_TOKENS = True

FACTORS = tuple(1 - step / 20 for step in range(9))
ROWS_AT_ONCE = 2048
"""Limits the temporaries to a few times `[rows, in]` and `[tokens, rows]`."""


def quantize(
    weights: Sequence[Tensor], inputs: LinearInputs | None, fmt: NumberFormat, rounding: Rounding
) -> list[Rounded]:
    """Codes and scales of `weights` `[out_i, in]`; `decision["clip"]` is the median of the rows' factors."""
    assert inputs is not None
    return [_clipped(weight, inputs.hessian, fmt, rounding) for weight in weights]


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
