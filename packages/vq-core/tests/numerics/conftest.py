"""Diffusers' own transformers in fp64, on which what is exact shows to be."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.families.wan import topology
from vq_core.numerics.folding import fold_group
from vq_core.topology import Group, block_of

Tensors = dict[str, Tensor]


@pytest.fixture
def fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep diffusers' casts to fp32 from rounding: `.float()` gives fp64 here."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


class Transformer:
    """A random diffusers transformer in fp64 whose output depends on everything that is folded."""

    def __init__(self, config: dict[str, Any]) -> None:
        import diffusers

        torch.manual_seed(0)
        parameters = {name: value for name, value in config.items() if not name.startswith("_")}
        self.model = getattr(diffusers, config["_class_name"])(**parameters).double().eval()
        self.topology = topology(config)
        tensors = self.model.state_dict()
        # Norms and modulation start as ones and zeros, for which a forgotten shift or bias would not show.
        for name, tensor in tensors.items():
            if re.search(r"norm|scale_shift_table|pos_embed|bias", name):
                tensor += torch.randn_like(tensor) / 2
        self.tensors: Tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        self.inputs = {
            "hidden_states": torch.randn(2, config["in_channels"], 2, 8, 8).double(),
            "timestep": torch.tensor([900.0, 100.0]).double(),
            "encoder_hidden_states": torch.randn(2, 512 if config["image_dim"] else 12, config["text_dim"]).double(),
        }
        if "vace_layers" in config:
            self.inputs["control_hidden_states"] = torch.randn(2, config["vace_in_channels"], 2, 8, 8).double()
        if config["image_dim"]:
            images = 2 if config["pos_embed_seq_len"] else 1  # the first and the last frame, or the first
            self.inputs["encoder_hidden_states_image"] = torch.randn(2 * images, 5, config["image_dim"]).double()

    def groups(self, ending: str, stack: str = "") -> list[Group]:
        """The groups with that ending in the blocks of `stack` (all where it is empty), or that span the model."""
        return [
            group
            for group in self.topology.groups
            if group.name.endswith(ending) and (block_of(group.name) is None or group.name.startswith(stack))
        ]

    def gains(self, groups: Iterable[Group]) -> dict[Group, Tensor]:
        """1/s with s log-normal over about three decades."""
        return {group: torch.exp(1.5 * torch.randn(group.in_features).double()) for group in groups}

    def folded(self, gains: dict[Group, Tensor]) -> Tensors:
        tensors = dict(self.tensors)
        tensors |= {name: torch.ones(length).double() for name, length in self.topology.gains.items()}
        for group, gain in gains.items():
            fold_group(tensors, group, gain)
        return tensors

    @torch.no_grad()
    def run(self, tensors: Tensors) -> Tensor:
        """The output with `tensors`; the gains among them multiply the inputs of the linears they belong to."""
        self.model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in self.tensors})
        hooks = []
        for linear in self.topology.linears:
            gain = tensors.get(self.topology.gain_of(linear.name) or "")
            if gain is not None:
                multiply = partial(multiply_input, gain=gain)
                hooks.append(self.model.get_submodule(linear.name).register_forward_pre_hook(multiply))
        try:
            output: Tensor = self.model(**self.inputs, return_dict=False)[0]
            return output
        finally:
            for hook in hooks:
                hook.remove()

    def relative_error(self, tensors: Tensors) -> float:
        reference = self.run(self.tensors)
        return float((self.run(tensors) - reference).abs().max() / reference.abs().max())


def multiply_input(module: nn.Module, args: tuple[Tensor], gain: Tensor) -> tuple[Tensor]:
    return (args[0] * gain,)


@pytest.fixture
def transformer_of() -> Callable[[dict[str, Any]], Transformer]:
    """`transformer_of(config)`: a random one."""
    return Transformer
