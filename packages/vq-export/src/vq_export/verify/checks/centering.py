"""Whether what centering has moved fits together: what a producer has lost, its readers' biases have got, times W.

Neither is in the model as it is in the checkpoint. But the difference of a producer's two offsets is μ, and then every
reader's bias is known: b + W·μ (`vq_core.numerics.centering`), in every block where all of them read the input. Behind
GELU the checkpoint holds μ itself.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.numerics.centering import Offset, offset_of
from vq_core.topology import Group, LinearSink, ModulationSink, Topology, block_of, shard_of

Read = Callable[[str], Tensor]
"""A tensor by name, fp32."""

STORED = 2.0**-7
"""Relative error of a bias that was rounded to bfloat16, and was a sum of two that were."""
RELATIVE = 2.0**-5
"""Error of W·μ over √(Σ W²μ²), about as large as W·μ itself: gains are recovered from what was rounded."""


@dataclass(frozen=True)
class Centered:
    """The groups of the component `name` of `checkpoint` whose input was centered."""

    checkpoint: ConvertedCheckpoint
    name: str

    @property
    def topology(self) -> Topology:
        """That of the component."""
        return self.checkpoint.components[self.name].topology

    @cached_property
    def groups(self) -> Mapping[Group, Offset | None]:
        """By group, what produces the offset of its input, if anything; first the groups that span all blocks."""
        measured = self.checkpoint.components[self.name].measured
        found = [group for group in self.topology.groups if measured.get(group.reads[0], {}).get("centered")]
        # What one has moved into a value projection's bias is known then, before that is looked at as a producer.
        found.sort(key=lambda group: block_of(group.name) is not None)
        return {group: offset_of(self.topology, group) for group in found}

    @cached_property
    def _linears(self) -> frozenset[str]:
        return frozenset(linear.name for linear in self.topology.block_linears)

    @cached_property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors that differ from the model's by it."""
        biases = {f"{linear}.bias" for group in self.groups for linear in group.reads}
        return frozenset(biases | {offset.tensor for offset in self.groups.values() if offset is not None})

    def misfits(
        self,
        shard: str,
        stored: Read,
        folded: Read,
        gains: Mapping[Group, Tensor],
        unknown: Collection[str],
        row_error: float,
    ) -> Iterator[str]:
        """Those of `tensors` in `shard` that do not fit the others.

        Args:
            shard: name of a block's shard.
            stored: reads the checkpoint.
            folded: reads the model, as smoothing changes it.
            gains: of the groups of the shard, and of those that span all blocks.
            unknown: names of biases that hold a correction as well; what follows from one cannot be checked.
            row_error: relative error of the factor of a linear's rows where only rounded weights tell it.
        """
        yield from self._tables_that_differ(shard, stored, folded)
        means: dict[Group, Tensor] = {}
        offsets, producers = set(self.groups.values()), _producers(self.topology)
        for group, offset in self.groups.items():
            linears = [linear for linear in group.reads if shard_of(linear) == shard]
            if not linears or (offset is not None and offset.tensor in unknown):
                continue
            if offset is None:
                means[group] = self._input_mean(linears[0], folded)
                uncertain = means[group].square()
            else:
                before, found = offset.of(folded(offset.tensor)), offset.of(stored(offset.tensor))
                if offset.row is None:
                    before = before + self._moved(offset.tensor, folded, means)
                gain = gains.get(group, 1.0) if isinstance(group.sink, ModulationSink) else 1.0
                means[group] = (before - found) * gain
                # The gain of a value projection's rows is known from its rounded weights alone: its bias has changed.
                uncertain = means[group].square() + (before.square() if offset.row is None else 0)
            for linear in linears:
                name = f"{linear}.bias"
                if Offset(name) in offsets or name in unknown:
                    continue
                weight = folded(f"{linear}.weight")
                expected = folded(name) + weight @ means[group]
                spread = (weight.square() @ uncertain).sqrt()
                own_rows = row_error if linear in producers else 0.0
                limit = (STORED + own_rows) * expected.abs() + (RELATIVE + row_error) * spread
                if not ((stored(name) - expected).abs() <= limit).all():
                    yield name

    def _tables_that_differ(self, shard: str, stored: Read, folded: Read) -> Iterator[str]:
        """Tables of which a row differs that no centering has changed."""
        rows: dict[str, list[Offset]] = {}
        for group, offset in self.groups.items():
            if shard_of(group.name) == shard and offset is not None and offset.row is not None:
                rows.setdefault(offset.tensor, []).append(offset)
        for name, changed in rows.items():
            found, expected = stored(name), folded(name)
            for offset in changed:
                expected = offset.replaced(expected, offset.of(found))
            if not torch.allclose(found, expected, rtol=STORED, atol=0):
                yield name

    def _input_mean(self, linear: str, folded: Read) -> Tensor:
        """What `linear` subtracts from its input; nothing where the checkpoint has lost it, which shows in its bias."""
        weight = folded(f"{linear}.weight")
        mean = self.checkpoint.components[self.name].input_mean(linear, str(weight.device))
        return torch.zeros_like(weight[0]) if mean is None else mean

    def _moved(self, bias: str, folded: Read, means: Mapping[Group, Tensor]) -> Tensor:
        """W·μ of the linear that `bias` belongs to, if it is one whose input was centered."""
        linear = bias.removesuffix(".bias")
        if linear not in self._linears or (mean := means.get(self.topology.group_of(linear))) is None:
            return torch.zeros_like(folded(bias))
        return folded(f"{linear}.weight") @ mean


def _producers(topology: Topology) -> frozenset[str]:
    """Names of the linears whose rows smoothing may have multiplied."""
    sinks = (sink for group in topology.groups for sink in (group.sink, group.gelu_sink))
    return frozenset(linear for sink in sinks if isinstance(sink, LinearSink) for linear in sink.linears)
