"""Which of the two forms of the fused operations runs: Triton kernels on CUDA, plain torch elsewhere."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.norm_quantize import gated_sum, norm_quantize
from vq_infer.fused.norm_rope import Rope, norm_rope
from vq_infer.fused.row_quantize import gelu_quantize, sum_quantize
from vq_infer.fused.tokens import Tokens


@dataclass(frozen=True)
class Ops:
    """The operations between the matrix products of a block, in one form; the plain functions say what they compute.

    Attributes:
        NAME: what summaries call the form.
    """

    NAME: str
    norm_quantize: Callable[..., tuple[Tensor, Tokens]]
    sum_quantize: Callable[[Tensor, Tensor | None, NumberFormat | None, int], Tokens]
    gelu_quantize: Callable[[Tensor, NumberFormat | None, int, Tensor | None], Tokens]
    norm_rope: Callable[[Tensor, Tensor, float, Rope | None, int], tuple[Tensor, ...]]
    gated_sum: Callable[[Tensor, Tensor, Tensor], Tensor]


TORCH_OPS = Ops("plain torch between products", norm_quantize, sum_quantize, gelu_quantize, norm_rope, gated_sum)


def has_kernels(device: torch.device) -> bool:
    """Whether `device` runs the operations as one kernel each: CUDA where Triton is installed."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def select_ops(device: torch.device) -> Ops:
    """Triton's kernels where they run, else plain torch."""
    if not has_kernels(device):
        return TORCH_OPS
    from vq_infer.fused import norm_quantize_triton, norm_rope_triton, row_quantize_triton

    return Ops(
        "fused Triton kernels between products",
        norm_quantize_triton.norm_quantize,
        row_quantize_triton.sum_quantize,
        row_quantize_triton.gelu_quantize,
        norm_rope_triton.norm_rope,
        norm_quantize_triton.gated_sum,
    )
