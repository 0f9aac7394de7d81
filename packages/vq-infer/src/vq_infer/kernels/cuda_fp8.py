"""FP8 on the GPU's tensor cores: torch's row-wise scaled matrix product, which applies scales and bias as it stores."""

import torch
from torch import Tensor

from vq_core.numerics.quantize import Quantized

NAME = "torch._scaled_mm rowwise FP8 (CUDA)"
MULTIPLE = 16


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `Kernel.multiply`. The product is stored in bfloat16, the one output type that row-wise scales have."""
    y = torch._scaled_mm(
        x.codes,
        weight.codes.t(),
        scale_a=x.scale,
        scale_b=weight.scale.t(),
        bias=None if bias is None else bias.to(torch.bfloat16),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
    return y.to(dtype)
