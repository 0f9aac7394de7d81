"""Smoothing of a whole model: statistics and weights in, folded weights out, one block at a time."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vq_algos.smoothers import Smoother, smoother_named
from vq_core import __version__
from vq_core.artifacts import weights as weights_artifact
from vq_core.artifacts.stats import ActivationStats, component_headers
from vq_core.errors import VqError
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.finite import require_finite
from vq_core.numerics.folding import fold_group
from vq_core.progress import progress
from vq_core.source import Checkpoint, Source
from vq_core.store import Header, create_artifact, require_same_model
from vq_core.topology import Group, block_of

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

    Host memory: one block in its own dtype and in fp32.

    Raises:
        VqError: the statistics are missing, of another model, or lack a group; a weight is not finite.
    """
    smoother = smoother_named(settings.method)
    if smoother.NEEDS_STATISTICS and stats is None:
        raise VqError(f"`{settings.method}` needs activation statistics: run vq-calib collect and give its output as --stats.")
    if stats is not None:
        require_same_model(stats.artifact, source.fingerprints, source.name)
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
    shards = [(name, shard) for name, checkpoint in source.components.items() for shard in checkpoint.topology.shards()]
    with create_artifact(output, header, resume=resume) as writer, progress("smooth", len(shards), "shard") as advance:
        for component, checkpoint in source.components.items():
            pending = [s for s in checkpoint.topology.shards() if not writer.has(f"{component}/{s}.safetensors")]
            work = _ComponentSmoothing(source, component, smoother, stats, settings, device)
            for shard in checkpoint.topology.shards():
                if shard in pending:
                    tensors, decisions = work.shard(shard)
                    metadata = {weights_artifact.DECISIONS: json.dumps(decisions)}
                    writer.write_tensors(f"{component}/{shard}.safetensors", tensors, metadata)
                advance()


class _ComponentSmoothing:
    """Smooths the shards of one transformer; gains that span all blocks are computed once, before the first shard."""

    def __init__(
        self,
        source: Source,
        component: str,
        smoother: Smoother,
        stats: ActivationStats | None,
        settings: SmoothSettings,
        device: str,
    ) -> None:
        self._checkpoint: Checkpoint = source.components[component]
        self._component = component
        self._smoother = smoother
        self._stats = stats
        self._settings = settings
        self._device = device
        topology = self._checkpoint.topology
        chosen = topology.groups if settings.groups == "all" else source.family.llmc_groups(topology)
        groups = [group for group in chosen if group.sink is not None]
        self._block_groups = [group for group in groups if block_of(group.name) is not None]
        self._model_gains = {
            group: self._gain(group, self._weights_of(group)) for group in groups if block_of(group.name) is None
        }

    def shard(self, shard: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Folded tensors of one shard, and what was decided for its groups."""
        topology = self._checkpoint.topology
        tensors = self._checkpoint.load(topology.shards()[shard], self._device)
        for name, tensor in tensors.items():
            require_finite(tensor, name, self._checkpoint.folder)
        before = dict(tensors)
        gains = {name: length for name, length in topology.gains.items() if name.startswith(f"{_block_prefix(shard)}.")}
        for name, length in gains.items():
            tensors[name] = torch.ones(length, device=self._device)
        own = [group for group in self._block_groups if group.name.startswith(f"{_block_prefix(shard)}.")]
        decided = {group: self._gain(group, (tensors[f"{linear}.weight"] for linear in group.reads)) for group in own}
        if shard == "non_block":
            decided |= self._model_gains
        for group, gain in (decided | self._model_gains).items():
            fold_group(tensors, group, gain)
        folded = [name for name in before if tensors[name] is not before[name]]
        for name in folded:
            require_finite(tensors[name], name, "the folded weights")
            tensors[name] = tensors[name].to(DTYPES[self._settings.dtype])
        decisions = {group.name: self._decision(gain) for group, gain in decided.items()}
        return {name: tensor.cpu() for name, tensor in tensors.items()}, decisions

    def _gain(self, group: Group, weights: Iterable[Tensor]) -> Tensor:
        """1/s of the group as bfloat16 values, fp32 `[in]`."""
        weight_absmax = column_absmax(weights)
        if self._stats is None:
            activation_absmax = torch.ones_like(weight_absmax)
        else:
            activation_absmax = self._stats.absmax(self._component, group.name).to(weight_absmax.device)
            require_finite(activation_absmax, f"{group.name}.absmax", self._stats.artifact.path)
        return nearest_bf16(1 / self._smoother.smoothing(activation_absmax, weight_absmax, self._settings.alpha))

    def _weights_of(self, group: Group) -> Iterable[Tensor]:
        for linear in group.reads:
            name = f"{linear}.weight"
            weight = self._checkpoint.load([name], self._device)[name]
            require_finite(weight, name, self._checkpoint.folder)
            yield weight

    def _decision(self, gain: Tensor) -> Mapping[str, object]:
        s = 1 / gain
        return {
            "method": self._settings.method,
            "alpha": self._settings.alpha,
            "s_min": float(s.min()),
            "s_median": float(s.median()),
            "s_max": float(s.max()),
        }


def column_absmax(weights: Iterable[Tensor]) -> Tensor:
    """Absmax of every column over the rows of all `weights` `[out_i, in]` → fp32 `[in]`."""
    absmaxes = [weight.abs().amax(dim=0).float() for weight in weights]
    return torch.stack(absmaxes).amax(dim=0)


def _block_prefix(shard: str) -> str:
    return shard.replace("block_", "blocks.")
