"""One way to read a transformer, whatever it lies in: a model as it comes, smoothed weights, codes of any origin."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from pydantic import JsonValue
from torch import Tensor

from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import QuantScheme
from vq_core.topology import Topology

Weight_co = TypeVar("Weight_co", covariant=True)
"""The weight of a block's linear: a `Tensor` `[out, in]`, or `vq_core.numerics.quantize.Quantized`, codes and scale."""


class TransformerReader(Protocol[Weight_co]):
    """A transformer whose tensors are read when they are asked for, by diffusers' names; none is kept loaded.

    A linear's weight is a `Tensor` where it is in full precision, `Quantized` where it is not. Wherever a file is
    damaged, or was changed since it was opened, the read that meets it raises a `VqError`.
    """

    @property
    def config(self) -> dict[str, JsonValue]:
        """Its config.json, diffusers' keys."""

    @property
    def topology(self) -> Topology:
        """Its tensors, linears and groups."""

    def verify(self, shard: str) -> None:
        """Compare the digests of the files of `shard` before they are read, which may happen in another thread.

        Raises:
            VqError: a file is not the one that was written.
        """

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`, in that order, of the dtype and shape that they are stored with.

        None of them may be quantized: see `Topology.plain_shards`. In full precision any tensor will do.
        """

    def linear(self, name: str, device: str = "cpu") -> Weight_co:
        """The weight of the block's linear `name`."""

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain `name`, fp32 `[in]`, by which inputs of linears are to be multiplied; None where there are none."""


class CodesReader(TransformerReader[Quantized], Protocol):
    """A transformer of which linears are quantized."""

    def scheme_of(self, linear: str) -> QuantScheme:
        """The scheme of the quantized linear `linear`."""

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        """What the quantized `linear` subtracts from its input before it rotates it, fp32 `[in]`; None for nothing."""


class DescribedTransformer(TransformerReader[Weight_co], Protocol[Weight_co]):
    """A transformer that the manifest of an artifact can describe."""

    @property
    def fingerprint(self) -> str:
        """Identity of the full-precision weights that it goes back to."""

    @property
    def lora(self) -> Sequence[Mapping[str, JsonValue]]:
        """What a manifest says of the LoRAs that are merged into those."""
