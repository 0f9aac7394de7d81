"""Matrix products of 8-bit codes, one file for each way to compute them.

On quantized tokens all of them compute `vq_core.numerics.linear.w8a8_linear`.
"""

import importlib.util
import logging
from typing import Protocol

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import cpu, cuda_fp8, cuda_int8

log = logging.getLogger(__name__)

FP8_CAPABILITY = (8, 9)  # Ada and Hopper brought FP8 tensor cores
BF16_CAPABILITY = (8, 0)  # the models run in bfloat16


class ProductKernel(Protocol):
    """What a kernel's module provides."""

    NAME: str
    """What summaries call it."""

    MULTIPLE: int
    """In and out features must be multiples of this."""

    def multiply(self, x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """X̂·Ŵᵀ + b in `dtype`, `[tokens, out]`.

        `x`: codes `[tokens, in]`, scale `[tokens, 1]`; `weight`: codes `[out, in]`, scale `[out, 1]`; `bias`: `[out]`.
        """


def select_kernel(device_type: str, capability: tuple[int, int] | None, fmt: NumberFormat) -> ProductKernel:
    """The kernel for codes in `fmt` on a kind of device; `capability` is the GPU's CUDA compute capability.

    Raises:
        VqError: this kind of device cannot multiply such codes.
    """
    if device_type == "cpu":
        return cpu
    if device_type != "cuda" or capability is None:
        raise VqError(f"no kernel runs on `{device_type}`: use --device cuda or --device cpu.")
    if capability < BF16_CAPABILITY:
        raise VqError(f"the GPU has compute capability {_dotted(capability)} and 8.0 is needed: use --device cpu.")
    if fmt is NumberFormat.INT8:
        return cuda_int8
    if capability < FP8_CAPABILITY:
        raise VqError(
            f"the GPU has compute capability {_dotted(capability)} and FP8 needs 8.9: "
            "convert the model with --scheme int8, which runs here."
        )
    return cuda_fp8


def checked_kernel(kernel: ProductKernel, device: torch.device) -> ProductKernel:
    """`kernel`, or for INT8 on a GPU our faster one, if Triton is installed and its products there are right."""
    if kernel is not cuda_int8 or importlib.util.find_spec("triton") is None:
        return kernel
    from vq_infer.kernels import triton_int8

    reason = triton_int8.disagreement(device)
    if reason is None:
        return triton_int8
    log.warning("%s cannot be used, and %s, which is slower, runs: %s", triton_int8.NAME, kernel.NAME, reason)
    return kernel


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
