"""Ranges change no number and leave no trace."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vq_infer.bench.measuring.ranges import RangedKernel, RangedOps, named_ranges
from vq_infer.bench.models.workload import Step
from vq_infer.fused.block import FusedBlock
from vq_infer.kernels.quant_linear import QuantLinear


def test_numbers_are_the_same(built: Callable[[str], nn.Module], step: Step) -> None:
    model = built("vq_fp8")
    expected = step.forward(model, "cond", 1.0)
    with named_ranges(model):
        assert all(isinstance(part.kernel, RangedKernel) for part in model.modules() if isinstance(part, QuantLinear))
        assert all(isinstance(part.ops, RangedOps) for part in model.modules() if isinstance(part, FusedBlock))
        assert torch.equal(step.forward(model, "cond", 1.0), expected)


def test_gone_afterwards(built: Callable[[str], nn.Module]) -> None:
    model = built("vq_int8")
    (block,) = (module for module in model.modules() if isinstance(module, FusedBlock))
    parts = (block.ops, block.attention, block.cross_attention, block.qkv.kernel)
    with pytest.raises(KeyError), named_ranges(model):
        raise KeyError
    assert (block.ops, block.attention, block.cross_attention, block.qkv.kernel) == parts
