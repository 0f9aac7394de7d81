"""GPTQ (Frantar et al., 2022): columns are rounded in turn, each compensating for the error of those before it.

The scale of a row is that of its absmax, fixed beforehand, and that of a group, where there are any, the one with the
least error of its own; what compensation moves beyond it saturates. H is the Hessian of the quantized inputs. Its
damping decides how far to trust a few thousand tokens, and no value suits every linear: several are tried, and each
linear keeps the one with the least output error on held-out tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vq_algos.layer.hessian import Factor
from vq_algos.layer.inputs import LinearInputs
from vq_algos.layer.output_error import HeldOutError
from vq_algos.rounding.column_rounding import round_columns
from vq_algos.rounding.rounders import Rounded
from vq_algos.rounding.rounders.clip import least_error_groups
from vq_core.numerics.quantize import Groups, Quantized, dequantize, split, weight_scale
from vq_core.numerics.scheme import QuantScheme, Rounding

NEEDS_TOKENS = True

DAMPS = (0.01, 0.1, 0.3, 1.0)


def quantize(
    weights: Sequence[Tensor], inputs: LinearInputs | None, scheme: QuantScheme, rounding: Rounding
) -> list[Rounded]:
    """Codes and scales of `weights` `[out_i, in]`; `decision["damp"]` is the damping λ that was chosen."""
    assert inputs is not None
    best: list[tuple[float, Rounded]] = []
    judges = [HeldOutError(weight, inputs.held_out) for weight in weights]
    for versions in damped_versions(weights, inputs, scheme, rounding):
        errors = [judge.error(dequantize(one.quantized)).total for judge, one in zip(judges, versions, strict=True)]
        judged = list(zip(errors, versions, strict=True))
        best = [min(pair, key=lambda one: one[0]) for pair in zip(best, judged, strict=True)] if best else judged
    return [version for _, version in best]


def damped_versions(
    weights: Sequence[Tensor], inputs: LinearInputs, scheme: QuantScheme, rounding: Rounding
) -> Iterator[list[Rounded]]:
    """All `weights` rounded with each of `DAMPS` in turn.

    The rows of all linears go through the columns together, so that every column is visited once.
    """
    rows = torch.cat([*weights]) if len(weights) > 1 else weights[0]  # torch copies even one
    scale = weight_scale(rows, scheme.weight)
    groups = None
    if scheme.grouped:
        groups, _ = least_error_groups(rows, scale, scheme.bits)
    sizes = [len(weight) for weight in weights]
    for damp in DAMPS:
        # Bound to no name here, or one damping's factor would stay in memory while the next is computed.
        rounded, damp_taken = _rounded(rows, scale, inputs.hessian.factor(damp), scheme, rounding, groups)
        yield [Rounded(part, {"method": "gptq", "damp": damp_taken}) for part in split(rounded, sizes)]


def _rounded(
    rows: Tensor, scale: Tensor, factor: Factor, scheme: QuantScheme, rounding: Rounding, groups: Groups | None
) -> tuple[Quantized, float]:
    """The codes of `rows` `[out, in]`, and the damping of `factor`."""
    return round_columns(rows, scale, factor, scheme.weight, rounding, groups), factor.damp
