"""The last step of rounding a linear with sampled tokens: correct its bias, and measure its error.

The bias takes back what quantization adds to the linear's output on average,

    Δb = Σ_t w_t (x_t·Wᵀ − x̂_t·Ŵᵀ) / Σ_t w_t

(Nagel et al., 2019, arXiv 1906.04721, section 4.2, with the mean over sampled tokens; quantized activations count too).
Δb is computed on fit tokens and kept only if it lowers the error on held-out tokens.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs, Sampled
from vq_algos.layer.output_error import Energy, HeldOutError, bucket_snr_db, snr_db, spares_buckets


@dataclass(frozen=True)
class Scored:
    """The result for a rounded linear.

    Attributes:
        shift: fp32 `[out]` to add to its bias; None if the bias stays.
        figures: for the decision record, see docs/formats/quant-params.md.
    """

    shift: Tensor | None
    figures: dict[str, Any]


def correct_and_score(
    weight: Tensor, dequantized: Tensor, inputs: LinearInputs, rtn: Energy, *, correct_bias: bool
) -> Scored:
    """Score Ŵ = `dequantized` of W = `weight`, both fp32 `[out, in]`, and correct the bias if that lowers the error.

    `rtn` is the error of rounding to nearest.
    """
    judge = HeldOutError(weight, inputs.held_out)
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


def bias_shift(weight: Tensor, dequantized: Tensor, fit: Sampled) -> Tensor:
    """Δb fp32 `[out]` for W = `weight` and Ŵ = `dequantized`, both fp32 `[out, in]`, on the tokens `fit`.

    Computed as W·mean(x − x̂) + (W − Ŵ)·mean(x̂), which is a sum of small terms, not a difference of large ones.
    """
    share = fit.weight / fit.weight.sum()
    lost = share @ (fit.x - fit.x_hat)
    return weight @ lost + (weight - dequantized) @ (share @ fit.x_hat)
