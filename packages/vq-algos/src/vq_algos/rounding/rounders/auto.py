"""For each linear the best of rounding to nearest, clipping and GPTQ, by output error on held-out tokens.

E = Σ_t w_t ‖x_t·Wᵀ − x̂_t·Ŵᵀ‖² on held-out tokens. Rounding to nearest is always a candidate, so no linear gets worse
than that. A candidate that is worse by more than the tolerance in one bucket of sigma is not taken, however much it
gains in others.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.layer.output_error import HeldOutError, spares_buckets
from vq_algos.rounding.rounders import Rounded, clip, gptq, rtn
from vq_core.numerics.quantize import dequantize
from vq_core.numerics.scheme import QuantScheme, Rounding

NEEDS_TOKENS = True


def quantize(
    weights: Sequence[Tensor], inputs: LinearInputs | None, scheme: QuantScheme, rounding: Rounding
) -> list[Rounded]:
    """Codes and scales of `weights` `[out_i, in]`; `decision` is that of the chosen rounder."""
    assert inputs is not None
    judges = [HeldOutError(weight, inputs.held_out) for weight in weights]
    best = rtn.quantize(weights, inputs, scheme, rounding)
    plain = [judge.error(dequantize(one.quantized)) for judge, one in zip(judges, best, strict=True)]
    least = list(plain)
    for versions in _others(weights, inputs, scheme, rounding):
        for index, version in enumerate(versions):
            error = judges[index].error(dequantize(version.quantized))
            if error.total < least[index].total and spares_buckets(error, plain[index]):
                best[index], least[index] = version, error
    return best


def _others(
    weights: Sequence[Tensor], inputs: LinearInputs, scheme: QuantScheme, rounding: Rounding
) -> Iterator[list[Rounded]]:
    """All `weights` by every other candidate in turn, each made after the one before has been judged."""
    yield clip.quantize(weights, inputs, scheme, rounding)
    yield from gptq.damped_versions(weights, inputs, scheme, rounding)
