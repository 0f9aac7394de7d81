"""INT8 and FP8 on the CPU: codes in fp32 matrix products.

Processors without 8-bit matrix instructions multiply fp32 many times faster than int8, and every code is an fp32 value.
"""

import torch
from torch import Tensor

from vq_core.numerics.quantize import Quantized

NAME = "fp32 product of codes (CPU)"
MULTIPLE = 1

# The longest K for which every partial sum of products of INT8 codes is an integer that fp32 holds exactly. Tokens stay
# within ±127; weights that LLMC has rounded may hold −128.
EXACT_K = 2**24 // (127 * 128)


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `Kernel.multiply`. Each product over `EXACT_K` of the in features is exact for INT8; their sum is fp32."""
    y = torch.zeros(x.codes.shape[0], weight.codes.shape[0], device=x.codes.device)
    for x_part, weight_part in zip(x.codes.split(EXACT_K, dim=1), weight.codes.split(EXACT_K, dim=1), strict=True):
        y += x_part.float() @ weight_part.float().t()
    y *= x.scale
    y *= weight.scale.t()
    if bias is not None:
        y += bias
    return y.to(dtype)
