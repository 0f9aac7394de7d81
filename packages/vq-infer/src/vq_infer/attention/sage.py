"""SageAttention (arXiv 2410.02367, 2411.10958) in 8 bits through diffusers, if it is installed."""

import torch
from torch import Tensor

NAME = "SageAttention"
# Its kernels have not been measured here: this is the bound for a cosine of 0.998, which the paper gives for the worst
# layer of its models. `auto` measures the error itself.
ERROR = 0.065
CAPABILITY = (8, 0)
VERSION = "2.1.1"  # required by diffusers


def unavailable(device: torch.device) -> str | None:
    """See `AttentionModule.unavailable`."""
    from diffusers.utils import is_sageattention_available, is_sageattention_version

    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        return "SageAttention needs a GPU of compute capability 8.0"
    if not is_sageattention_available() or not is_sageattention_version(">=", VERSION):
        return f"SageAttention {VERSION} or newer is not installed (`pip install 'sageattention>={VERSION}'`)"
    return None


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `Attention.attend`; q, k and v in 16 bits."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    return dispatch_attention_fn(q, k, v, backend=AttentionBackendName.SAGE)
