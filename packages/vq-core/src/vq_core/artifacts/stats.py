"""`activation-stats`: per group, timestep bucket and guidance branch, per-channel statistics of the linears' inputs.

Tensors of a group, in the file of its block (`transformer/block_0.safetensors`) or `non_block`:

* `GROUP.STATISTIC` `[buckets, branches, in]`, for every statistic of `vq_core.statistics`;
* `GROUP.count` int64 `[buckets, branches]`: tokens seen.

Buckets divide sigma (the noise level, 0 to 1) evenly, so that the flow shift of the sampler is respected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vq_core.artifacts.components import component_headers
from vq_core.errors import VqError
from vq_core.families import family_named
from vq_core.source import Source
from vq_core.store import Artifact, Header, open_artifact

KIND = "activation-stats"
FORMAT = 1
BUCKETS = 8
BRANCHES = ("cond", "uncond")


@dataclass(frozen=True)
class GroupStats:
    """Statistics of one group's input.

    Attributes:
        absmax: fp32 `[buckets, branches, in]`.
        mean_abs, mean, second_moment: fp64 `[buckets, branches, in]`, zero where nothing was seen.
        count: int64 `[buckets, branches]`, tokens.
    """

    absmax: Tensor
    mean_abs: Tensor
    mean: Tensor
    second_moment: Tensor
    count: Tensor

    @property
    def overall_absmax(self) -> Tensor:
        """Absmax over all tokens, `[in]`."""
        return self.absmax.amax(dim=(0, 1))

    @property
    def overall_mean_abs(self) -> Tensor:
        """Mean |x| over all tokens, fp64 `[in]`."""
        return (self.mean_abs * self.count.unsqueeze(-1)).sum(dim=(0, 1)) / self.count.sum().clamp(min=1)

    @property
    def tokens(self) -> int:
        """Tokens in all buckets and branches."""
        return int(self.count.sum())


Split = Literal["fit", "held-out"]


@dataclass(frozen=True)
class Tokens:
    """Sampled rows of one group's input.

    Attributes:
        rows: bf16 `[n, in]`.
        weight: fp32 `[n]`, mean 1: every bucket that was seen counts equally, or, where the input is the same at every
            noise level, every row as often as it occurred.
        bucket: int64 `[n]`, bucket of sigma; −1 where the input does not depend on it.
    """

    rows: Tensor
    weight: Tensor
    bucket: Tensor


class ActivationStats:
    """An opened activation-stats artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    def groups(self, component: str) -> tuple[str, ...]:
        """Names of the groups of a component, in the model's order."""
        manifest = self.artifact.manifest
        topology = family_named(manifest.family).topology(manifest.components[component].config)
        return tuple(group.name for group in topology.groups)

    def group(self, component: str, group: str) -> GroupStats:
        """The statistics of one group of one component."""
        names = [f"{group}.{part}" for part in ("absmax", "abs_sum", "sum", "square_sum", "count")]
        absmax, abs_sum, total, square_sum, count = self.artifact.tensors(component, names).values()
        tokens = count.clamp(min=1).unsqueeze(-1)
        return GroupStats(absmax, abs_sum / tokens, total / tokens, square_sum / tokens, count)

    def absmax(self, component: str, group: str) -> Tensor:
        """Absmax of a group's input over all tokens, fp32 `[in]`.

        Raises:
            VqError: the group was never run.
        """
        absmax = self.artifact.tensors(component, [f"{group}.absmax"])[f"{group}.absmax"].amax(dim=(0, 1))
        if not torch.any(absmax > 0):
            raise VqError(
                f"{self.artifact.path} saw no input of {group} in {component}: "
                "collect with prompts and steps that reach it."
            )
        return absmax


def stats_header(tool: str, source: Source, settings: Mapping[str, object]) -> Header:
    """Header of the statistics of the model `source`."""
    return Header(
        kind=KIND,
        format=FORMAT,
        tool=tool,
        family=source.family_name,
        model=source.name,
        components=component_headers(source),
        settings=dict(settings),  # type: ignore[arg-type]
    )


def open_stats(path: Path) -> ActivationStats:
    """Open the activation-stats artifact in `path`; refuses anything else or damaged."""
    return ActivationStats(open_artifact(path, KIND, FORMAT))
