"""INT8 on the GPU's tensor cores: an exact int32 product, then scales and bias in fp32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.quantize import Quantized

NAME = "torch._int_mm INT8 (CUDA)"
MULTIPLE = 8
MIN_TOKENS = 17  # `torch._int_mm` refuses fewer rows


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `ProductKernel.multiply`."""
    tokens = x.codes.shape[0]
    codes = F.pad(x.codes, (0, 0, 0, MIN_TOKENS - tokens)) if tokens < MIN_TOKENS else x.codes
    y = torch._int_mm(codes, weight.codes.t())[:tokens].float()
    y *= x.scale
    y *= weight.scale.t()
    if bias is not None:
        y += bias
    return y.to(dtype)
