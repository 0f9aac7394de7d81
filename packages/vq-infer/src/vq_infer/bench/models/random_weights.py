"""Random weights, made on the device and the same for every contender.

They are not a trained model's, but products with them have about the same size: weights of variance 1 / in_features
keep the scale of their input.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from vq_core.families import wan
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.centering import subtracts_itself
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.rotation import NONE, largest_group, rotate
from vq_core.numerics.scheme import QuantScheme
from vq_core.topology import Topology


class RandomWeights:
    """A stand-in for one transformer of a converted checkpoint, see `vq_core.model.transformer_reader`.

    Attributes:
        config: diffusers' config.json.
        topology: of that configuration.
    """

    def __init__(self, config: Mapping[str, Any], scheme: QuantScheme, max_rotation: int = NONE) -> None:
        """Every linear is rotated, at most `max_rotation` channels together."""
        self.config = dict(config)
        self.topology: Topology = wan.topology(config)
        self._scheme = scheme
        self._max_rotation = max_rotation

    def verify(self, shard: str) -> None:
        """There is nothing to verify."""

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """Tensors that are not quantized, bfloat16."""
        return {name: random_tensor(name, self.topology.tensors[name], device) for name in names}

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        """Codes and scale of a linear, its gain folded in as smoothing does."""
        gain_name = self.topology.gain_of(name)
        weight = random_tensor(f"{name}.weight", self.topology.tensors[f"{name}.weight"], device)
        if gain_name is not None:
            weight = weight.float() / self.gain(gain_name, device)
        rotation = largest_group(weight.shape[1], self._max_rotation)
        return quantize_to(self._scheme, rotate(weight.float(), rotation))._replace(rotation=rotation)

    def scheme_of(self, linear: str) -> QuantScheme:
        """That of all linears."""
        return self._scheme

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        """What a linear behind GELU subtracts, fp32 `[in]`, as in a centered checkpoint, which has more to compute."""
        group = self.topology.group_of(linear)
        if not subtracts_itself(group):
            return None
        return torch.rand(group.in_features, generator=_generator(f"{group.name}.mean", device), device=device) / 8

    def gain(self, name: str, device: str = "cpu") -> Tensor:
        """A gain between 1/2 and 2, as in a smoothed checkpoint, which has more to compute."""
        generator = _generator(name, device)
        exponents = torch.rand(self.topology.gains[name], generator=generator, device=device)
        return nearest_bf16(2 ** (2 * exponents - 1))


def random_tensor(name: str, shape: tuple[int, ...], device: str) -> Tensor:
    """The tensor called `name`, bfloat16 on `device`; the same in every process on the same kind of device."""
    if name.endswith("bias"):
        return torch.zeros(shape, device=device, dtype=torch.bfloat16)
    if len(shape) == 1:
        return torch.ones(shape, device=device, dtype=torch.bfloat16)
    columns = shape[-1] if "scale_shift_table" in name else torch.Size(shape[1:]).numel()
    noise = torch.randn(shape, generator=_generator(name, device), device=device)
    return (noise * columns**-0.5).bfloat16()


def _generator(name: str, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
