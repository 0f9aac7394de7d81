"""Centering: linears read X − μ instead of X, and compute the same, because their biases take W·μ.

    (X − μ)·Wᵀ + (b + W·μ) = X·Wᵀ + b.

A channel's mean μ `[in]` costs range in every token's scale, and rounding errors of W multiply it. What produces X
takes −μ:

* a modulated norm, LN(x)·(1 + a + p) + c + d: the shift c in the table of its own block;
* an affine norm, behind which the embedded image lies as well: its bias;
* attention: the bias of its value projection, because the weights of every token sum to one. Where the attentions to
  text and to image are added, that of the text takes it alone;
* the text's embedder: the bias of its last linear;
* behind GELU nothing does: the linear itself, where the runtime's kernel subtracts μ before it quantizes.

All blocks read the embedded text and image: their means are subtracted for every block or for none.

Tensors are stored in bfloat16 by many runtimes. So the new producer is a bfloat16 value, and μ what it has lost.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink, ProjectionSink, Topology, shard_of


class Offset(NamedTuple):
    """What is added to a group's input: a tensor of the model, of a modulation table its row."""

    tensor: str
    row: int | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The offset `[in]` in the `tensor` that holds it."""
        return tensor if self.row is None else tensor[0, self.row]

    def replaced(self, tensor: Tensor, offset: Tensor) -> Tensor:
        """The `tensor` in fp32 with another `offset` `[in]`."""
        changed = tensor.float().clone()
        self.of(changed).copy_(offset)
        return changed


def offset_of(topology: Topology, group: Group) -> Offset | None:
    """Where −μ of the input of `group` goes; None where it goes nowhere."""
    match group.sink:
        case ModulationSink():
            across = topology.across(group)
            if across is None or not isinstance(across.sink, ProjectionSink):
                return None
            (table,) = (name for name in across.sink.tables if shard_of(name) == shard_of(group.name))
            return Offset(table, across.sink.shift)
        case NormSink(norm):
            return Offset(f"{norm}.bias")
        case LinearSink(linears):
            return Offset(f"{linears[0]}.bias")
    return None


def subtracts_itself(group: Group) -> bool:
    """Must the linears of `group` subtract the mean of their input, because nothing that produces it can lose it?"""
    return group.sink is None and group.gelu_sink is not None


def offset_by(topology: Topology, linear: str) -> Group | None:
    """The group whose offset is the bias of `linear`; None if there is none."""
    mine = (group for group in topology.groups if isinstance(group.sink, LinearSink) and linear in group.sink.linears)
    return next((group for group in mine if offset_of(topology, group) == Offset(f"{linear}.bias")), None)


def storable_mean(offset: Tensor, mean: Tensor, gain: Tensor) -> Tensor:
    """The μ nearest to `mean` that a bfloat16 value in the place of `offset` leaves exactly; all fp32 `[in]`.

    `gain` multiplies what is produced before it is read.
    """
    return (offset - _without(offset, mean / gain)) * gain


def without_mean(current: Callable[[str], Tensor], offset: Offset, gain: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """What produces an input and has lost its `mean`: the changed tensor of the model, fp32 by name.

    Args:
        current: reads a tensor, in fp32.
        offset: where −μ goes.
        gain: fp32 `[in]`, multiplies what is produced before it is read.
        mean: fp32 `[in]`, as `storable_mean` gives it.
    """
    before = current(offset.tensor)
    return {offset.tensor: offset.replaced(before, _without(offset.of(before), mean / gain))}


def with_mean(current: Callable[[str], Tensor], weights: Mapping[str, Tensor], mean: Tensor) -> dict[str, Tensor]:
    """The biases of linears whose input has lost its `mean`, fp32 `[out]` by name.

    Args:
        current: reads a tensor, in fp32.
        weights: fp32 `[out, in]`, by the name of each linear.
        mean: fp32 `[in]`.
    """
    return {f"{linear}.bias": current(f"{linear}.bias") + weight @ mean for linear, weight in weights.items()}


def _without(offset: Tensor, mean: Tensor) -> Tensor:
    return nearest_bf16(offset - mean)
