"""Per-token quantization of a linear's input, with the operation before it, in plain torch."""

import torch.nn.functional as F
from torch import Tensor

from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.tokens import Tokens, tokens_of


def sum_quantize(x: Tensor, addend: Tensor | None, fmt: NumberFormat | None, rotation: int = NONE) -> Tokens:
    """Q((x + addend)·R), of attention's output, or of the sum of its outputs for text and image.

    `x` and `addend` are `[batch, tokens, dim]`; codes have their shape and scales a last dimension of 1. The sum is
    rounded to the dtype of `x` first. R rotates `rotation` channels together. Without a format, the sum itself.
    """
    return tokens_of(x if addend is None else x + addend, fmt, rotation=rotation)


def gelu_quantize(x: Tensor, fmt: NumberFormat | None, rotation: int = NONE, mean: Tensor | None = None) -> Tokens:
    """Q((GELU(x) − mean)·R), tanh approximation, `[batch, tokens, dim]`; `mean` fp32 `[dim]`.

    GELU's value is rounded to the dtype of `x` first. Without a format, that value.
    """
    return tokens_of(F.gelu(x, approximate="tanh"), fmt, rotation=rotation, mean=mean)
