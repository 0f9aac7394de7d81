"""Ranges change no number and leave no trace."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vq_infer.bench.measuring.ranges import named_ranges
from vq_infer.bench.models.workload import Step
from vq_infer.fused.block import FusedBlock


def test_numbers_are_the_same_and_nothing_stays(built: Callable[[str], nn.Module], step: Step) -> None:
    model = built("vq_fp8")
    expected = step.forward(model, "cond", 1.0)
    (block,) = (module for module in model.modules() if isinstance(module, FusedBlock))
    parts = (block.ops, block.attention, block.cross_attention, block.qkv.kernel)
    with pytest.raises(KeyError), named_ranges(model):
        assert not {block.ops, block.attention, block.cross_attention, block.qkv.kernel} & set(parts)
        assert torch.equal(step.forward(model, "cond", 1.0), expected)
        raise KeyError
    assert (block.ops, block.attention, block.cross_attention, block.qkv.kernel) == parts
