"""Which of the two forms of the fused operations runs: Triton kernels on CUDA, plain torch elsewhere."""

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.gated_sum import gated_sum
from vq_infer.fused.norm_quantize import norm_quantize
from vq_infer.fused.norm_rope import Rope, norm_rope
from vq_infer.fused.row_quantize import gelu_quantize, sum_quantize


class Ops(Protocol):
    """The operations between the matrix products of a block; each says in its own file what it computes."""

    NAME: str
    """How summaries call them."""

    def norm_quantize(
        self,
        x: Tensor,
        multiplier: Tensor,
        offset: Tensor,
        eps: float,
        fmt: NumberFormat,
        gain: Tensor | None = None,
        update: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Quantized]:
        """See `vq_infer.fused.norm_quantize`."""

    def sum_quantize(self, x: Tensor, addend: Tensor | None, fmt: NumberFormat) -> Quantized:
        """See `vq_infer.fused.row_quantize`."""

    def gelu_quantize(self, x: Tensor, fmt: NumberFormat) -> Quantized:
        """See `vq_infer.fused.row_quantize`."""

    def norm_rope(self, x: Tensor, weights: Tensor, eps: float, rope: Rope | None, heads: int) -> tuple[Tensor, ...]:
        """See `vq_infer.fused.norm_rope`."""

    def gated_sum(self, x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
        """See `vq_infer.fused.gated_sum`."""


class TorchOps:
    """Plain torch."""

    NAME = "plain torch between products"
    norm_quantize = staticmethod(norm_quantize)
    sum_quantize = staticmethod(sum_quantize)
    gelu_quantize = staticmethod(gelu_quantize)
    norm_rope = staticmethod(norm_rope)
    gated_sum = staticmethod(gated_sum)


def has_kernels(device: torch.device) -> bool:
    """Whether `device` runs the operations as one kernel each: CUDA where Triton is installed."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def select_ops(device: torch.device) -> Ops:
    """Triton's kernels where they run, else plain torch."""
    if not has_kernels(device):
        return TorchOps()
    from vq_infer.fused.triton_ops import TritonOps

    return TritonOps()
