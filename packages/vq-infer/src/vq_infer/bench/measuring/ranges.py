"""Named ranges around the operations of our engine, so that a profile tells which of them a kernel belongs to."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat
from vq_infer.attention import Attention
from vq_infer.bench.measuring.kinds import Kind, kind_range, linear_range
from vq_infer.fused.block import FusedBlock
from vq_infer.fused.norm_rope import Rope
from vq_infer.fused.ops import Ops
from vq_infer.kernels import ProductKernel
from vq_infer.kernels.quant_linear import QuantLinear


class RangedKernel:
    """A kernel that multiplies within its linear's range."""

    def __init__(self, kernel: ProductKernel) -> None:
        self.kernel = kernel
        self.NAME = kernel.NAME
        self.MULTIPLE = kernel.MULTIPLE

    def multiply(self, x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """See `ProductKernel.multiply`."""
        out_features, in_features = weight.codes.shape
        with record_function(linear_range(x.codes.shape[0], in_features, out_features)):
            return self.kernel.multiply(x, weight, bias, dtype)


class RangedOps:
    """The fused operations, each within the range of its kind."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops
        self.NAME = ops.NAME

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
        """See `Ops`."""
        with record_function(kind_range(Kind.NORM)):
            return self.ops.norm_quantize(x, multiplier, offset, eps, fmt, gain, update, gate)

    def sum_quantize(self, x: Tensor, addend: Tensor | None, fmt: NumberFormat) -> Quantized:
        """See `Ops`."""
        with record_function(kind_range(Kind.QUANTIZE)):
            return self.ops.sum_quantize(x, addend, fmt)

    def gelu_quantize(self, x: Tensor, fmt: NumberFormat) -> Quantized:
        """See `Ops`."""
        with record_function(kind_range(Kind.GELU)):
            return self.ops.gelu_quantize(x, fmt)

    def norm_rope(self, x: Tensor, weights: Tensor, eps: float, rope: Rope | None, heads: int) -> tuple[Tensor, ...]:
        """See `Ops`."""
        with record_function(kind_range(Kind.ROPE)):
            return self.ops.norm_rope(x, weights, eps, rope, heads)

    def gated_sum(self, x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
        """See `Ops`."""
        with record_function(kind_range(Kind.NORM)):
            return self.ops.gated_sum(x, update, gate)


class RangedAttention:
    """An attention within the range of its kind."""

    def __init__(self, attention: Attention, kind: Kind) -> None:
        self.attention = attention
        self.NAME = attention.NAME
        self.ERROR = attention.ERROR
        self._range = kind_range(kind)

    def unavailable(self, device: torch.device) -> str | None:
        """See `Attention`."""
        return self.attention.unavailable(device)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention`."""
        with record_function(self._range):
            return self.attention.attend(q, k, v)


@contextmanager
def named_ranges(model: nn.Module) -> Iterator[None]:
    """While it lasts, what our modules in `model` launch lies in ranges; other models are left as they are."""
    linears = {module: module.kernel for module in model.modules() if isinstance(module, QuantLinear)}
    blocks = {
        module: (module.ops, module.attention, module.cross_attention)
        for module in model.modules()
        if isinstance(module, FusedBlock)
    }
    for linear, kernel in linears.items():
        linear.kernel = RangedKernel(kernel)
    for block, (ops, attention, cross_attention) in blocks.items():
        block.ops = RangedOps(ops)
        block.attention = RangedAttention(attention, Kind.SELF_ATTENTION)
        block.cross_attention = RangedAttention(cross_attention, Kind.CROSS_ATTENTION)
    try:
        yield
    finally:
        for linear, kernel in linears.items():
            linear.kernel = kernel
        for block, parts in blocks.items():
            block.ops, block.attention, block.cross_attention = parts
