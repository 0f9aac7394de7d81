"""Named ranges around the operations of our engine, so that a profile tells which of them a kernel belongs to."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from vq_core.numerics.quantize import Quantized
from vq_infer.bench.kinds import linear_range
from vq_infer.kernels import Kernel
from vq_infer.quant_linear import QuantLinear


class RangedKernel:
    """A kernel that names its linear's range while it multiplies."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.NAME = kernel.NAME
        self.MULTIPLE = kernel.MULTIPLE

    def multiply(self, x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """See `Kernel.multiply`."""
        out_features, in_features = weight.codes.shape
        with record_function(linear_range(x.codes.shape[0], in_features, out_features)):
            return self.kernel.multiply(x, weight, bias, dtype)


@contextmanager
def named_ranges(model: nn.Module) -> Iterator[None]:
    """While it lasts, what our modules in `model` launch lies in ranges; other models are left as they are."""
    linears = [module for module in model.modules() if isinstance(module, QuantLinear)]
    kernels = [linear.kernel for linear in linears]
    for linear in linears:
        linear.kernel = RangedKernel(linear.kernel)
    try:
        yield
    finally:
        for linear, kernel in zip(linears, kernels, strict=True):
            linear.kernel = kernel
