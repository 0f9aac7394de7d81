"""Named ranges around the operations of our engine, so that a profile tells which of them a kernel belongs to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from vq_core.numerics.quantize import Quantized
from vq_infer.attention import Attention
from vq_infer.bench.measuring.kinds import Kind, kind_range, linear_range
from vq_infer.fused.block import FusedBlock
from vq_infer.fused.ops import Ops
from vq_infer.kernels import ProductKernel
from vq_infer.kernels.quant_linear import QuantLinear

OPERATIONS = {
    "norm_quantize": Kind.NORM,
    "sum_quantize": Kind.QUANTIZE,
    "gelu_quantize": Kind.GELU,
    "norm_rope": Kind.ROPE,
    "gated_sum": Kind.NORM,
}
"""The kind of each operation of `Ops`."""


class RangedKernel:
    """A kernel that multiplies within its linear's range."""

    def __init__(self, kernel: ProductKernel) -> None:
        self.NAME, self.MULTIPLE = kernel.NAME, kernel.MULTIPLE
        self._multiply = kernel.multiply

    def multiply(self, x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """See `ProductKernel.multiply`."""
        out_features, in_features = weight.codes.shape
        with record_function(linear_range(x.codes.shape[0], in_features, out_features)):
            return self._multiply(x, weight, bias, dtype)


class RangedAttention:
    """An attention within the range of its kind."""

    def __init__(self, attention: Attention, kind: Kind) -> None:
        self.NAME, self.ERROR = attention.NAME, attention.ERROR
        self.attend = _within(kind, attention.attend)


def ranged_ops(ops: Ops) -> Ops:
    """`ops`, each operation within the range of its kind."""
    ranged: dict[str, Any] = {name: _within(kind, getattr(ops, name)) for name, kind in OPERATIONS.items()}
    return replace(ops, **ranged)


def _within(kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
    def ranged(*arguments: Any, **named: Any) -> Any:
        with record_function(kind_range(kind)):
            return function(*arguments, **named)

    return ranged


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
        block.ops = ranged_ops(ops)
        block.attention = RangedAttention(attention, Kind.SELF_ATTENTION)
        block.cross_attention = RangedAttention(cross_attention, Kind.CROSS_ATTENTION)
    try:
        yield
    finally:
        for linear, kernel in linears.items():
            linear.kernel = kernel
        for block, parts in blocks.items():
            block.ops, block.attention, block.cross_attention = parts
