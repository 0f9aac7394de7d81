"""FlashAttention-4 in 16 bits, if it is installed; it compiles its kernels at their first use, also for Hopper."""

import os
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.remote.mirror import user_cache

NAME = "FlashAttention-4"
ERROR = 0.0025  # as for cuDNN: on random q, k and v both had 0.0023
CAPABILITY = (9, 0)  # it has kernels for older GPUs too, which have not been measured here
PACKAGE = "flash-attn-4"


def unavailable(device: torch.device) -> str | None:
    """See `AttentionModule.unavailable`."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        return "FlashAttention-4 needs a Hopper GPU or a newer one"
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return (
            f"FlashAttention-4 is not installed (`pip install --pre '{PACKAGE}[cu13]'`; for CUDA 12 without `[cu13]`)"
        )
    try:
        _keep_compiled()
        import flash_attn.cute  # noqa: F401  # it needs other packages, which may be missing or too old
    except (ImportError, OSError, AttributeError) as problem:
        return f"FlashAttention-4 is installed but does not start ({problem})"
    return None


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `Attention.attend`; q, k and v in 16 bits.

    Raises:
        VqError: it has no kernel for these inputs.
    """
    _keep_compiled()
    # Diffusers can only download it from a hub.
    from flash_attn.cute import flash_attn_func

    try:
        out: Tensor | tuple[Tensor, Tensor | None] = flash_attn_func(q, k, v)
    except AssertionError as refusal:  # raised for sizes and dtypes that it does not support
        raise VqError(
            f"FlashAttention-4 does not support heads of {q.shape[-1]} channels in {q.dtype}: {refusal}"
        ) from None
    return out[0] if isinstance(out, tuple) else out


def _keep_compiled() -> None:
    """Make it keep what it compiles; it reads these variables at import. What the user has set stays."""
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", str(user_cache() / "flash-attention-4"))
