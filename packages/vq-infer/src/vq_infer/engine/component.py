"""What the engine needs of one transformer's weights, wherever they come from."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from vq_core.numerics.quantize import Quantized
from vq_core.topology import Topology


class Component(Protocol):
    """One transformer: of a converted checkpoint, or random for measurements."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Diffusers' config.json."""

    @property
    def topology(self) -> Topology:
        """Its tensors, linears and groups."""

    def verify(self, shard: str) -> None:
        """Refuse damaged files of `shard` before it is read; may be called in another thread."""

    def plain(self, device: str = "cpu", shard: str | None = None) -> dict[str, Tensor]:
        """The tensors that are not quantized, of one shard or all, by diffusers' names."""

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        """Codes and scale of the quantized linear `name`."""

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain `name`; None where the weights are not smoothed."""
