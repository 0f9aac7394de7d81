"""INT8 and FP8 on the CPU, computed as in simulation."""

import torch
from torch import Tensor

from vq_core.numerics.linear import linear_of_codes
from vq_core.numerics.quantize import Quantized

NAME = "int32 or fp32 sums of codes (CPU)"
MULTIPLE = 1


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `ProductKernel.multiply`."""
    return linear_of_codes(x, weight, bias).to(dtype)
