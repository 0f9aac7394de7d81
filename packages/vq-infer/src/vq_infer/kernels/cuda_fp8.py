"""FP8 on the GPU's tensor cores: torch's row-wise scaled matrix product, which applies scales and bias as it stores."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.quantize import Quantized

NAME = "torch._scaled_mm rowwise FP8 (CUDA)"
MULTIPLE = 16
# With a bias and fewer tokens, cuBLAS lacks kernels for some shapes with many in features.
MIN_TOKENS = 128


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `ProductKernel.multiply`. The product is stored in bfloat16, the only output type for row-wise scales."""
    tokens = x.codes.shape[0]
    y = torch._scaled_mm(
        _pad(x.codes.view(torch.int8)).view(x.codes.dtype),
        weight.codes.t(),
        scale_a=_pad(x.scale),
        scale_b=weight.scale.t(),
        bias=None if bias is None else bias.to(torch.bfloat16),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
    return y[:tokens].to(dtype)


def _pad(rows: Tensor) -> Tensor:
    """`rows` with rows of zeros up to `MIN_TOKENS`."""
    missing = MIN_TOKENS - rows.shape[0]
    return F.pad(rows, (0, 0, 0, missing)) if missing > 0 else rows
