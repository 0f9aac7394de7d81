"""Centering in fp64 on diffusers' own transformer: exact, and wrong without any of the tensors that it changes."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.families.wan import topology
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.centering import Offset, centered, offset_of, storable_mean
from vq_core.topology import Group

EXACT = 1e-12
Tensors = dict[str, Tensor]


@pytest.fixture
def fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep diffusers' casts to fp32 from rounding: `.float()` gives fp64 here."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


class Transformer:
    """A random diffusers transformer in fp64."""

    def __init__(self, config: dict[str, Any]) -> None:
        import diffusers

        torch.manual_seed(0)
        parameters = {name: value for name, value in config.items() if not name.startswith("_")}
        self.model = getattr(diffusers, config["_class_name"])(**parameters).double().eval()
        self.topology = topology(config)
        for name, tensor in self.model.state_dict().items():
            if re.search(r"norm|scale_shift_table|pos_embed|bias", name):
                tensor += torch.randn_like(tensor) / 2
        self.tensors: Tensors = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.inputs = {
            "hidden_states": torch.randn(2, config["in_channels"], 2, 8, 8).double(),
            "timestep": torch.tensor([900.0, 100.0]).double(),
            "encoder_hidden_states": torch.randn(2, 512 if config["image_dim"] else 12, config["text_dim"]).double(),
        }
        if "vace_layers" in config:
            self.inputs["control_hidden_states"] = torch.randn(2, config["vace_in_channels"], 2, 8, 8).double()
        if config["image_dim"]:
            images = 2 if config["pos_embed_seq_len"] else 1
            self.inputs["encoder_hidden_states_image"] = torch.randn(2 * images, 5, config["image_dim"]).double()

    @property
    def offsets(self) -> dict[Group, Offset]:
        found = {group: offset_of(self.topology, group) for group in self.topology.groups}
        return {group: offset for group, offset in found.items() if offset is not None}

    def centered(self, *endings: str) -> Tensors:
        """The tensors with every group of these endings centered by a random mean."""
        tensors = dict(self.tensors)
        for group, offset in self.offsets.items():
            if group.name.endswith(endings):
                gain = torch.ones(group.in_features).double()
                mean = storable_mean(offset.of(tensors[offset.tensor]), torch.randn_like(gain), gain)
                weights = {linear: tensors[f"{linear}.weight"] for linear in group.reads}
                tensors |= centered(tensors.__getitem__, offset, gain, weights, mean)
        return tensors

    @torch.no_grad()
    def relative_error(self, tensors: Tensors) -> float:
        outputs = []
        for these in (self.tensors, tensors):
            self.model.load_state_dict(these)
            outputs.append(self.model(**self.inputs, return_dict=False)[0])
        return float((outputs[1] - outputs[0]).abs().max() / outputs[0].abs().max())


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize("ending", ["attn1.qkv", "attn1.out", "attn2.q", "attn2.out", "ffn.up"])
def test_each_is_exact_and_needs_producer_and_biases(wan_config: dict[str, Any], ending: str) -> None:
    transformer = Transformer(wan_config)
    changed = transformer.centered(ending)
    assert transformer.relative_error(changed) < EXACT
    offsets = {offset.tensor for group, offset in transformer.offsets.items() if group.name.endswith(ending)}
    assert offsets
    biases = {name for name in changed if changed[name] is not transformer.tensors[name]} - offsets
    assert biases
    for forgotten in (offsets, biases):
        wrong = changed | {name: transformer.tensors[name] for name in forgotten}
        assert transformer.relative_error(wrong) > 1e-3


@pytest.mark.usefixtures("fp64")
def test_all_together_are_exact(wan_config: dict[str, Any]) -> None:
    transformer = Transformer(wan_config)
    assert transformer.relative_error(transformer.centered("")) < EXACT


def test_what_other_blocks_read_and_what_has_no_producer_is_left_out(wan_config: dict[str, Any]) -> None:
    described = topology(wan_config)
    left_out = {group.name for group in described.groups if offset_of(described, group) is None}
    assert left_out == {name for name in left_out if name in ("text", "image") or name.endswith("ffn.down")}


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
    changed = centered(current.__getitem__, where, gain, {"linear": weight}, mean)
    row = where.of(changed["table"])
    assert torch.equal(row, nearest_bf16(row))
    assert torch.equal((offset - row) * gain, mean)
    assert torch.equal(changed["table"][0, 0], table[0, 0])
    assert torch.equal(changed["linear.bias"], 1 + weight @ mean)
