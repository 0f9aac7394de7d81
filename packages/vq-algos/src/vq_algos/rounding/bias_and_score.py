"""The last step of rounding a linear with sampled tokens: correct its bias, and measure its error.

Both are judged on the held-out tokens: a corrected bias is kept only where it pays there.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.layer.output_error import HeldOutError, bucket_snr_db, snr_db, spares_buckets
from vq_algos.rounding.bias_correction import bias_shift
from vq_core.numerics.quantize import dequantize, quantize_weight
from vq_core.numerics.scheme import NumberFormat, Rounding


@dataclass(frozen=True)
class Scored:
    """What was found about a rounded linear.

    Attributes:
        shift: fp32 `[out]` to be added to its bias, or None where the bias stays.
        figures: for the decision record, see docs/formats/quant-params.md.
    """

    shift: Tensor | None
    figures: dict[str, Any]


def correct_and_score(
    weight: Tensor,
    dequantized: Tensor,
    inputs: LinearInputs,
    fmt: NumberFormat,
    rounding: Rounding,
    *,
    correct_bias: bool,
) -> Scored:
    """Score Ŵ = `dequantized` of W = `weight`, both fp32 `[out, in]`, and correct the bias where that pays."""
    judge = HeldOutError(weight, inputs.held_out)
    rtn = judge.error(dequantize(quantize_weight(weight, fmt, rounding)))
    error = judge.error(dequantized)
    shift = None
    if correct_bias:
        candidate = bias_shift(weight, dequantized, inputs.fit)
        corrected = judge.error(dequantized, candidate)
        if corrected.total < error.total and spares_buckets(corrected, rtn, before=error):
            shift, error = candidate, corrected
    figures = {
        "output_snr_db": snr_db(judge.signal.total, error.total),
        "rtn_output_snr_db": snr_db(judge.signal.total, rtn.total),
        "activation_snr_db": snr_db(judge.signal.total, judge.activation_error().total),
        "weight_only_snr_db": snr_db(judge.signal.total, judge.weight_error(dequantized).total),
        "bucket_snr_db": bucket_snr_db(judge.signal, error),
        "bias_corrected": shift is not None,
    }
    return Scored(shift, figures)
