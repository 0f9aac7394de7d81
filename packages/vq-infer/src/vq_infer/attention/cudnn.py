"""cuDNN's attention through diffusers, the fastest in PyTorch on Hopper."""

import torch
from torch import Tensor

NAME = "cuDNN attention"
ERROR = 0.0025
CAPABILITY = (8, 0)


def unavailable(device: torch.device) -> str | None:
    """See `AttentionModule.unavailable`."""
    if device.type != "cuda":
        return "cuDNN needs a CUDA device"
    if torch.cuda.get_device_capability(device) < CAPABILITY:
        return "cuDNN's attention needs a GPU of compute capability 8.0"
    if not torch.backends.cudnn.is_available():
        return "this PyTorch was built without cuDNN"
    return None


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `Attention.attend`; q, k and v in 16 bits."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    return dispatch_attention_fn(q, k, v, backend=AttentionBackendName._NATIVE_CUDNN)
