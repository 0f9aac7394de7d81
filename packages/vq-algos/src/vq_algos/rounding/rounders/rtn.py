"""Round to nearest: every weight to the code closest to it, at the scale of the row's, or the group's, absmax."""

from collections.abc import Sequence

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.rounding.rounders import Rounded
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.scheme import QuantScheme, Rounding

NEEDS_TOKENS = False


def quantize(
    weights: Sequence[Tensor], inputs: LinearInputs | None, scheme: QuantScheme, rounding: Rounding
) -> list[Rounded]:
    """Codes and scales of `weights` `[out_i, in]`; `inputs` are ignored."""
    return [Rounded(quantize_to(scheme, weight, rounding), {"method": "rtn"}) for weight in weights]
