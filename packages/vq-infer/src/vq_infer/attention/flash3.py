"""FlashAttention-3 (arXiv 2407.08608) in 16 bits through diffusers, if it is installed."""

import torch
from torch import Tensor

NAME = "FlashAttention-3"
ERROR = 0.0025
CAPABILITY = (9, 0)


def unavailable(device: torch.device) -> str | None:
    """See `AttentionModule.unavailable`."""
    from diffusers.utils import is_flash_attn_3_available

    if device.type != "cuda" or torch.cuda.get_device_capability(device) != CAPABILITY:
        return "FlashAttention-3 needs a Hopper GPU"
    if not is_flash_attn_3_available():
        return "FlashAttention-3 is not installed (build `flash_attn_3` from the hopper folder of flash-attention)"
    return None


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `Attention.attend`; q, k and v in 16 bits."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    return dispatch_attention_fn(q, k, v, backend=AttentionBackendName._FLASH_3)
