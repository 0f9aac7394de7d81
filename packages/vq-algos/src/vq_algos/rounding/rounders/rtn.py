"""Round to nearest: every weight to the code closest to it, at the scale of the row's absmax."""

from collections.abc import Sequence

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.rounding.rounders import Rounded
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import NumberFormat, Rounding

NEEDS_TOKENS = False


def quantize(
    weights: Sequence[Tensor], inputs: LinearInputs | None, fmt: NumberFormat, rounding: Rounding
) -> list[Rounded]:
    """Codes and scales of `weights` `[out_i, in]`; `inputs` are ignored."""
    return [Rounded(quantize_weight(weight, fmt, rounding), {"method": "rtn"}) for weight in weights]
