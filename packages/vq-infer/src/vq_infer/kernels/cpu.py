"""INT8 and FP8 on the CPU: the product of codes that simulation has too."""

import torch
from torch import Tensor

from vq_core.numerics.products import product_of_codes
from vq_core.numerics.quantize import Quantized

NAME = "int32 or fp32 sums of codes (CPU)"
MULTIPLE = 1


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `Kernel.multiply`."""
    y = product_of_codes(x.codes, weight.codes).mul_(x.scale).mul_(weight.scale.t())
    if bias is not None:
        y.add_(bias)
    return y.to(dtype)
