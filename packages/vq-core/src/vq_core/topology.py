"""The terms in which a model family describes a transformer: its linears, groups and sinks."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

NON_BLOCK = "non_block"
_BLOCK = re.compile(r"(?P<stack>vace_|)blocks\.(?P<number>\d+)\.")


@dataclass(frozen=True)
class Linear:
    """A linear inside a block. `name` is diffusers' name."""

    name: str
    in_features: int
    out_features: int

    @property
    def shard(self) -> str:
        """Name of the shard of its block."""
        return shard_of(self.name)


@dataclass(frozen=True)
class NormSink:
    """1/s goes into the weight and bias of the affine norm `norm`."""

    norm: str


@dataclass(frozen=True)
class ModulationSink:
    """1/s multiplies the output of a modulated norm, LN(x)·(1 + scale) + shift, through the tensor `gain`."""

    gain: str


@dataclass(frozen=True)
class LinearSink:
    """1/s goes into the output rows (weight and bias) of every linear in `linears`; all produce the group's input."""

    linears: tuple[str, ...]


@dataclass(frozen=True)
class ProjectionSink:
    """1/s multiplies the outputs of the modulated norms of all blocks, LN(x)·(1 + a + p) + c + d.

    a and c are the rows `scale` and `shift` of each block's table `[1, rows, in]`; p and d are as many parts of the
    output of `projection`, a linear that all blocks share.
    """

    projection: str
    tables: tuple[str, ...]
    scale: int
    shift: int


Sink = NormSink | ModulationSink | LinearSink | ProjectionSink

Sequence = Literal["video", "text", "image"]
"""Which tokens an input has: those of the video, new at every step, or of a condition, the same at every step."""


@dataclass(frozen=True)
class Group:
    """Linears that read one input: the unit of statistics and of smoothing.

    A smoothing vector s `[in_features]` multiplies the columns of every linear in `reads`, and 1/s goes into `sink`.
    `sink=None` means that the input cannot be smoothed exactly. `gelu_sink` names the linear whose output reaches the
    input through GELU alone: folding 1/s there changes the function, but only a little for large and rare inputs.
    `sequence` says which tokens the input has. `members` are groups of single blocks which this one smooths alike; each
    has an input of its own.
    """

    name: str
    reads: tuple[str, ...]
    sink: Sink | None
    in_features: int
    gelu_sink: LinearSink | None = None
    sequence: Sequence = "video"
    members: "tuple[Group, ...]" = ()

    @property
    def gain(self) -> str:
        """Name of the tensor of 1/s: a runtime reads that of a modulated norm; the others record the fold."""
        return self.sink.gain if isinstance(self.sink, ModulationSink) else f"{self.name}.gain"


@dataclass(frozen=True)
class Topology:
    """One transformer: the shapes of all its tensors, its linears and its groups.

    It has one stack of blocks, `blocks`; VACE models have a second one, `vace_blocks`. `linears` are those of blocks
    that are quantized, or would be; the `kept` ones stay in full precision. `across_blocks` are the groups that smooth
    what modulated norms give without a gain: one for the same norm of every block.
    """

    family: str
    tensors: Mapping[str, tuple[int, ...]]
    linears: tuple[Linear, ...]
    groups: tuple[Group, ...]
    across_blocks: tuple[Group, ...] = ()
    kept: tuple[Linear, ...] = ()

    def keeping(self, names: Collection[str]) -> "Topology":
        """The same transformer with the linears `names` in full precision; groups have all that read their input."""
        kept = tuple(linear for linear in self.linears if linear.name in names)
        quantized = tuple(linear for linear in self.linears if linear.name not in names)
        return replace(self, linears=quantized, kept=(*self.kept, *kept))

    @cached_property
    def _linear_by_name(self) -> dict[str, Linear]:
        return {linear.name: linear for linear in self.linears}

    @cached_property
    def _group_by_linear(self) -> dict[str, Group]:
        return {name: group for group in self.groups for name in group.reads}

    def linear(self, name: str) -> Linear:
        """The quantized linear `name`."""
        return self._linear_by_name[name]

    def group_of(self, linear: str) -> Group:
        """The group whose input `linear` reads."""
        return self._group_by_linear[linear]

    def across(self, group: Group) -> Group | None:
        """The one of `across_blocks` that has `group` as a member."""
        return next((other for other in self.across_blocks if group in other.members), None)

    def gain_of(self, linear: str) -> str | None:
        """Name of the gain tensor that multiplies the input of `linear`; None unless a modulated norm feeds it."""
        sink = self.group_of(linear).sink
        return sink.gain if isinstance(sink, ModulationSink) else None

    @cached_property
    def gains(self) -> dict[str, int]:
        """Name and length of every gain tensor that smoothing adds to the model's own tensors."""
        return {group.sink.gain: group.in_features for group in self.groups if isinstance(group.sink, ModulationSink)}

    @property
    def block_linears(self) -> tuple[Linear, ...]:
        """The linears of blocks, quantized and kept."""
        return (*self.linears, *self.kept)

    @cached_property
    def weights(self) -> dict[str, str]:
        """Name of every weight that is quantized → that of its linear."""
        return {f"{linear.name}.weight": linear.name for linear in self.linears}

    @cached_property
    def biases(self) -> frozenset[str]:
        """Names of the biases of the linears that are quantized."""
        return frozenset(f"{linear.name}.bias" for linear in self.linears)

    def shards(self) -> dict[str, tuple[str, ...]]:
        """The model's tensors by the shard that holds them on disk: one shard per block, then `non_block`."""
        shards: dict[str, list[str]] = {}
        for name in self.tensors:
            shards.setdefault(shard_of(name), []).append(name)
        outside = shards.pop(NON_BLOCK, [])
        return {shard: tuple(names) for shard, names in (shards | {NON_BLOCK: outside}).items()}

    def plain_shards(self) -> dict[str, tuple[str, ...]]:
        """`shards` without the weights that are quantized."""
        return {
            shard: tuple(name for name in names if name not in self.weights) for shard, names in self.shards().items()
        }

    @cached_property
    def block_shards(self) -> tuple[str, ...]:
        """Names of the shards of blocks: `block_0`, `block_1` and so on, and with VACE also `vace_block_0`."""
        return tuple(shard for shard in self.shards() if shard != NON_BLOCK)

    @property
    def num_blocks(self) -> int:
        """Number of blocks in all stacks."""
        return len(self.block_shards)


def block_of(tensor: str) -> int | None:
    """Number of the block of `tensor` in its stack; None outside the blocks."""
    match = re.match(_BLOCK, tensor)
    return int(match["number"]) if match else None


def shard_of(tensor: str) -> str:
    """Name of the shard that holds `tensor`: `block_3`, `vace_block_0` or `non_block`."""
    match = re.match(_BLOCK, tensor)
    return f"{match['stack']}block_{match['number']}" if match else NON_BLOCK


def place_of(tensor: str) -> str:
    """Name of `tensor` without its block number: `attn1.to_q.weight`, or `vace_blocks.attn1.to_q.weight`."""
    match = re.match(_BLOCK, tensor)
    if match is None:
        return tensor
    inside = tensor[match.end() :]
    return f"{match['stack']}blocks.{inside}" if match["stack"] else inside
