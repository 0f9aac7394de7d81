"""Centering in fp64 on diffusers' own transformer: exact, and wrong without any of the tensors that it changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.families.wan import topology
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.centering import Offset, offset_by, offset_of, storable_mean, with_mean, without_mean
from vq_core.topology import Group

EXACT = 1e-12
Build = Callable[[dict[str, Any]], Any]  # the `Transformer` of conftest.py
Tensors = dict[str, Tensor]


def offsets_of(transformer: Any) -> dict[Group, Offset]:
    found = {group: offset_of(transformer.topology, group) for group in transformer.topology.groups}
    return {group: offset for group, offset in found.items() if offset is not None}


def center(transformer: Any, *endings: str) -> Tensors:
    """The tensors with every group of these endings centered by a random mean."""
    tensors = dict(transformer.tensors)
    for group, offset in offsets_of(transformer).items():
        if group.name.endswith(endings):
            gain = torch.ones(group.in_features).double()
            mean = storable_mean(offset.of(tensors[offset.tensor]), torch.randn_like(gain), gain)
            weights = {linear: tensors[f"{linear}.weight"] for linear in group.reads}
            tensors |= without_mean(tensors.__getitem__, offset, gain, mean)
            tensors |= with_mean(tensors.__getitem__, weights, mean)
    return tensors


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize("ending", ["attn1.qkv", "attn1.out", "attn2.q", "attn2.out", "ffn.up", "text", "image"])
def test_each_is_exact_and_needs_producer_and_biases(
    transformer_of: Build, wan_config: dict[str, Any], ending: str
) -> None:
    transformer = transformer_of(wan_config)
    changed = center(transformer, ending)
    assert transformer.relative_error(changed) < EXACT
    offsets = {offset.tensor for group, offset in offsets_of(transformer).items() if group.name.endswith(ending)}
    assert bool(offsets) == (ending != "image" or wan_config["image_dim"] is not None)
    biases = {name for name in changed if changed[name] is not transformer.tensors[name]} - offsets
    assert bool(biases) == bool(offsets)
    for forgotten in filter(None, (offsets, biases)):
        wrong = changed | {name: transformer.tensors[name] for name in forgotten}
        assert transformer.relative_error(wrong) > 1e-3


@pytest.mark.usefixtures("fp64")
def test_all_together_are_exact(transformer_of: Build, wan_config: dict[str, Any]) -> None:
    transformer = transformer_of(wan_config)
    assert transformer.relative_error(center(transformer, "")) < EXACT


def test_what_follows_gelu_has_no_place_and_all_else_has(wan_config: dict[str, Any]) -> None:
    described = topology(wan_config)
    for group in described.groups:
        assert (offset_of(described, group) is None) == group.name.endswith("ffn.down")


def test_a_bias_is_the_offset_of_one_group_at_most(wan_config: dict[str, Any]) -> None:
    described = topology(wan_config)
    found = {linear.name: offset_by(described, linear.name) for linear in described.linears}
    assert {linear.rpartition(".")[2] for linear, group in found.items() if group} == {"to_v"}
    assert all(offset_of(described, group) == Offset(f"{linear}.bias") for linear, group in found.items() if group)


def test_the_mean_is_what_a_bfloat16_offset_loses() -> None:
    generator = torch.Generator().manual_seed(0)
    offset, wanted = (torch.randn(64, generator=generator) * 3 for _ in range(2))
    gain = nearest_bf16(torch.rand(64, generator=generator) + 0.5)
    mean = storable_mean(offset, wanted, gain)
    assert torch.allclose(mean, wanted, atol=0.05)
    where = Offset("table", 1)
    table = torch.stack([torch.zeros(64), offset]).unsqueeze(0)
    weight = torch.randn(8, 64, generator=generator)
    current = {"table": table, "linear.bias": torch.ones(8)}
    changed = without_mean(current.__getitem__, where, gain, mean) | with_mean(
        current.__getitem__, {"linear": weight}, mean
    )
    row = where.of(changed["table"])
    assert torch.equal(row, nearest_bf16(row))
    assert torch.equal((offset - row) * gain, mean)
    assert torch.equal(changed["table"][0, 0], table[0, 0])
    assert torch.equal(changed["linear.bias"], 1 + weight @ mean)
