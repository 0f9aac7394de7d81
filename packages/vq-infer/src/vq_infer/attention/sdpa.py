"""PyTorch's own attention, which picks its kernel itself, through diffusers."""

import torch
from torch import Tensor

NAME = "PyTorch scaled_dot_product_attention"
ERROR = 0.0025


def unavailable(device: torch.device) -> str | None:
    """See `AttentionModule.unavailable`: it runs everywhere."""
    return None


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `Attention.attend`."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    return dispatch_attention_fn(q, k, v, backend=AttentionBackendName.NATIVE)
