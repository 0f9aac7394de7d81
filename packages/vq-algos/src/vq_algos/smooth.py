"""Smoothing of a whole model: statistics and weights in, folded weights out, one block at a time."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vq_algos.smoothers import smoother_named
from vq_core import __version__
from vq_core.artifacts import weights as weights_artifact
from vq_core.artifacts.components import component_headers
from vq_core.artifacts.decisions import write_decided
from vq_core.artifacts.stats import ActivationStats
from vq_core.errors import VqError
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.finite import require_finite
from vq_core.numerics.folding import fold_group
from vq_core.progress import progress
from vq_core.source import Checkpoint, Source
from vq_core.store import Header, create_artifact, require_same_model
from vq_core.topology import Group, block_of, shard_of

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GROUP_SETS = ("all", "llmc")


@dataclass(frozen=True)
class SmoothSettings:
    """How to smooth.

    Attributes:
        method: a smoother's name.
        alpha: migration strength, 0 to 1.
        groups: `all` exact folds, or only the three per block that LLMC smooths (`llmc`).
        dtype: of folded tensors, `fp32` or `bf16`.
    """

    method: str = "smoothquant"
    alpha: float = 0.75
    groups: str = "all"
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        smoother_named(self.method)
        if not 0 <= self.alpha <= 1:
            raise VqError(f"alpha is {self.alpha} and must lie between 0 and 1: 0.75 is a good start.")
        if self.groups not in GROUP_SETS:
            raise VqError(f"`{self.groups}` is not a set of groups: choose one of {', '.join(GROUP_SETS)}.")
        if self.dtype not in DTYPES:
            raise VqError(f"`{self.dtype}` is not a dtype for folded weights: choose one of {', '.join(DTYPES)}.")


def smooth(
    source: Source,
    stats: ActivationStats | None,
    settings: SmoothSettings,
    output: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
) -> None:
    """Write the smoothed-weights artifact of `source` to `output`.

    Host memory: one block in its own dtype and twice in that of folded tensors.

    Raises:
        VqError: the statistics are missing, of another model, or lack a group; a weight is not finite.
    """
    if stats is not None:
        require_same_model(stats.artifact, source.fingerprints, source.name)
    elif smoother_named(settings.method).NEEDS_STATISTICS:
        raise VqError(
            f"`{settings.method}` needs activation statistics: run vq-calib collect and give its output as --stats."
        )
    header = Header(
        kind=weights_artifact.KIND,
        format=weights_artifact.FORMAT,
        tool=f"vq-algos {__version__}",
        family=source.family_name,
        model=source.name,
        components=component_headers(source),
        settings=asdict(settings),
        parents={stats.artifact.manifest.kind: stats.artifact.digest} if stats else {},
    )
    total = sum(len(checkpoint.topology.shards()) for checkpoint in source.components.values())
    with create_artifact(output, header, resume=resume) as writer, progress("smooth", total, "shard") as advance:
        for name, checkpoint in source.components.items():
            topology = checkpoint.topology
            groups = topology.groups if settings.groups == "all" else source.family.llmc_groups(topology)
            component = _Component(name, checkpoint, groups, stats, settings, device)
            for shard in topology.shards():
                file = f"{name}/{shard}.safetensors"
                if not writer.has(file):
                    # Bound to no name here, or one block would live on while the next is folded.
                    write_decided(writer, file, *component.smooth_shard(shard))
                advance()


@dataclass(frozen=True)
class _Component:
    """One transformer and how it is smoothed.

    Every gain is derived from the original weights, so neither the order of the groups nor that of the shards matters.
    """

    name: str
    checkpoint: Checkpoint
    groups: tuple[Group, ...]
    stats: ActivationStats | None
    settings: SmoothSettings
    device: str

    def smooth_shard(self, shard: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Folded tensors of one shard, and what was decided for the groups that belong to it."""
        topology = self.checkpoint.topology
        original = self._load(topology.shards()[shard])
        here = [group for group in topology.groups if shard_of(group.name) == shard]
        ones = {group.gain: torch.ones(group.in_features, device=self.device) for group in here}
        tensors = original | ones
        gains = dict(self._shared_gains)
        for group in self._smoothable:
            if block_of(group.name) is not None and shard_of(group.name) == shard:
                gains[group] = self._gain(group, (original[name] for name in _weight_names(group)))
        for group, gain in gains.items():
            if not torch.all(gain == 1):  # a fold of ones would only change the dtype
                fold_group(tensors, group, gain)
            if group.gain in ones:
                tensors[group.gain] = gain
        for name in original:
            if tensors[name] is not original[name]:
                require_finite(tensors[name], name, "the folded weights")
                tensors[name] = tensors[name].to(DTYPES[self.settings.dtype])
        own = [group for group in gains if shard_of(group.name) == shard]
        decisions = {group.name: self._decision(group, gains[group]) for group in own}
        return {name: tensor.cpu() for name, tensor in tensors.items()}, decisions

    @property
    def _smoothable(self) -> Iterable[Group]:
        return (group for group in self.groups if group.sink is not None)

    @cached_property
    def _shared_gains(self) -> dict[Group, Tensor]:
        """Gains of the groups that span all blocks; their weights are read once more, one at a time."""
        shared = [group for group in self._smoothable if block_of(group.name) is None]
        return {
            group: self._gain(group, (self._load([name])[name] for name in _weight_names(group))) for group in shared
        }

    def _load(self, names: Iterable[str]) -> dict[str, Tensor]:
        tensors = self.checkpoint.load(names, self.device)
        for name, tensor in tensors.items():
            require_finite(tensor, name, self.checkpoint.folder)
        return tensors

    def _gain(self, group: Group, weights: Iterable[Tensor]) -> Tensor:
        """1/s of the group as bfloat16 values, fp32 `[in]`; solved on the CPU, so that every device gives the same."""
        weight_absmax = column_absmax(weights).cpu()
        activation_absmax = torch.ones_like(weight_absmax)
        if self.stats is not None:
            activation_absmax = self.stats.absmax(self.name, group.name)
            require_finite(activation_absmax, f"{group.name}.absmax", self.stats.artifact.path)
        smoother = smoother_named(self.settings.method)
        s = smoother.smoothing(activation_absmax, weight_absmax, self.settings.alpha)
        return nearest_bf16(1 / s).to(self.device)

    def _decision(self, group: Group, gain: Tensor) -> dict[str, object]:
        s = 1 / gain
        smallest, middle, largest = float(s.min()), float(s.median()), float(s.max())
        logger.debug("%s: %s smoothed by s from %.3g to %.3g", self.name, group.name, smallest, largest)
        return {
            "method": self.settings.method,
            "alpha": self.settings.alpha,
            "s_min": smallest,
            "s_median": middle,
            "s_max": largest,
        }


def column_absmax(weights: Iterable[Tensor]) -> Tensor:
    """Absmax of every column over the rows of all `weights` `[out_i, in]` → fp32 `[in]`."""
    absmaxes = [weight.abs().amax(dim=0).float() for weight in weights]
    return torch.stack(absmaxes).amax(dim=0)


def _weight_names(group: Group) -> list[str]:
    return [f"{linear}.weight" for linear in group.reads]
