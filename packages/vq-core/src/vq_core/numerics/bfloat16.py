"""Values that survive the runtimes' cast to bfloat16."""

import torch
from torch import Tensor


def nearest_bf16(x: Tensor) -> Tensor:
    """`x` rounded to the nearest bfloat16 value, as fp32."""
    return x.to(torch.bfloat16).float()


def bf16_ceil(x: Tensor) -> Tensor:
    """The smallest bfloat16 value that is at least `x`, as fp32; `x` is fp32, finite and positive.

    Bfloat16 is the upper half of fp32, so adding what the lower half lacks and truncating rounds a positive value up.
    """
    bits = x.float().contiguous().view(torch.int32)
    return ((bits + 0xFFFF) & -0x10000).view(torch.float32)


def is_bf16(x: Tensor) -> Tensor:
    """Elementwise: whether a cast of `x` to bfloat16 leaves it unchanged."""
    return nearest_bf16(x) == x
