"""Round to nearest: every weight to the code closest to it, at the scale of the row's absmax."""

from torch import Tensor

from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.scheme import NumberFormat, Rounding


def quantize(weight: Tensor, fmt: NumberFormat, rounding: Rounding) -> Quantized:
    """Codes and scale of `weight` `[out, in]`."""
    return quantize_weight(weight, fmt, rounding)
