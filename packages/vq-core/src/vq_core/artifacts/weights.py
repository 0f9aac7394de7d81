"""`smoothed-weights`: every tensor of the transformers in diffusers' names, folded, plus the gain of every group.

Files: `transformer/block_0.safetensors` … and `transformer/non_block.safetensors`. Folded tensors are fp32, or bf16 on
request; the others are unchanged. Gains 1/s are fp32 `[in]` with bfloat16 values, ones where a group is not smoothed.
`blocks.N.norm1.gain` and `blocks.N.norm3.gain` multiply the modulated norms' outputs; those of the other groups,
`GROUP.gain`, are folded into the weights already and serve solvers that read the group's unsmoothed inputs.
`across.attn1.qkv.gain` and `across.ffn.up.gain` are there where the modulated norms of all blocks have one.
`block_0.json` … record how each group was smoothed.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vq_core.artifacts.decisions import read_decisions
from vq_core.artifacts.models_in_place import models_told
from vq_core.families import Family, family_named
from vq_core.remote.location import Location
from vq_core.store.reader import Artifact, open_artifact
from vq_core.topology import Group, ModulationSink, Topology

KIND = "smoothed-weights"
FORMAT = 1


class SmoothedTransformer:
    """One transformer of the artifact, read as any other: see `vq_core.model.transformer_reader`."""

    def __init__(self, artifact: Artifact, name: str, family: Family) -> None:
        self._artifact = artifact
        self._name = name
        entry = artifact.manifest.components[name]
        self.config = entry.config
        self.fingerprint = entry.fingerprint
        self.lora = entry.merged
        self.topology: Topology = family.topology(entry.config)

    def verify(self, shard: str) -> None:
        """Compare the digest of the file of `shard` before another thread may read it."""
        self._artifact.verify(self._name, self.topology.shards()[shard])

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`, folded or not."""
        return self._artifact.tensors(self._name, names, device)

    def linear(self, name: str, device: str = "cpu") -> Tensor:
        """The folded weight of the linear `name`, `[out, in]`."""
        (weight,) = self.plain([f"{name}.weight"], device).values()
        return weight

    def gain(self, name: str, device: str = "cpu") -> Tensor:
        """1/s of the group whose `Group.gain` is `name`, fp32 `[in]`.

        Its linears read X·gain, and their weights are those of the model over gain.
        """
        (gain,) = self.plain([name], device).values()
        return gain

    def across_gain(self, group: Group, device: str = "cpu") -> Tensor | None:
        """1/s that all blocks have in common for the input of `group`, fp32 `[in]`; None if it was not smoothed so."""
        across = self.topology.across(group)
        if across is None or across.gain not in self._artifact.manifest.components[self._name].tensors:
            return None
        return self.gain(across.gain, device)

    def input_gain(self, group: Group, device: str = "cpu") -> Tensor:
        """What the linears of `group` read over what the model's own do, fp32 `[in]`."""
        gain, across = self.gain(group.gain, device), self.across_gain(group, device)
        return gain if across is None else gain * across

    def gain_behind(self, group: Group, device: str = "cpu") -> Tensor:
        """What multiplies the input of `group` after it was produced, fp32 `[in]`: other gains are in the tensors."""
        if isinstance(group.sink, ModulationSink):
            return self.gain(group.sink.gain, device)
        return torch.ones(group.in_features, device=device)


class SmoothedWeights:
    """An opened smoothed-weights artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.family_name = artifact.manifest.family
        self.family = family_named(self.family_name)

    @cached_property
    def components(self) -> Mapping[str, SmoothedTransformer]:
        """The transformers by component name."""
        names = self.artifact.manifest.components
        return {name: SmoothedTransformer(self.artifact, name, self.family) for name in names}

    def decisions(self, component: str) -> dict[str, Any]:
        """How each group was smoothed, by group name."""
        return read_decisions(self.artifact, component)


def open_weights(path: Location) -> SmoothedWeights:
    """Open the smoothed-weights artifact in `path`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    with models_told(path):
        return SmoothedWeights(open_artifact(path, KIND, FORMAT))
