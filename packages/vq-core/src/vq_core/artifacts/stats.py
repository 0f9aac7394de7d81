"""`activation-stats`: statistics of the inputs of linears, by group; see docs/formats/activation-stats.md.

Tensors of a group, in the file of its block (`transformer/block_0.safetensors`) or `non_block`:

* `GROUP.STATISTIC` `[buckets, branches, in]`, for every statistic of `vq_core.statistics`;
* `GROUP.count` int64 `[buckets, branches]`: tokens seen;
* `GROUP.absmax_histogram`, `GROUP.crest_histogram` int64 `[buckets, branches, bins]`, see `artifacts.histograms`;
* of a group that reads the video: `GROUP.fit` and `GROUP.held_out`, bf16 `[n, in]`, sampled tokens; `GROUP.outliers`
  bf16 `[m, in]`, the rows of highest absmax, and `GROUP.outlier_keys` int64 `[m]`, their sort keys;
* of a group that reads a condition: `GROUP.rows` bf16 `[n, in]`, every distinct row, and `GROUP.row_counts` int64
  `[n, 2]`, the number of tokens with that row, by split.

`tokens.fit` and `tokens.held_out` in `non_block`, int64 `[n, 6]`, identify the sampled tokens: row j of every group is
token j of the table. Buckets divide sigma (the noise level, 0 to 1) evenly, which respects the sampler's flow shift.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.components import model_header
from vq_core.artifacts.models_in_place import models_told
from vq_core.errors import VqError
from vq_core.families import family_named
from vq_core.model.source import Source
from vq_core.remote.location import Location
from vq_core.sampling.guidance import is_guided
from vq_core.sampling.model_defaults import checked
from vq_core.sampling.schedule import BUCKETS
from vq_core.store.manifest import FILE_NAME
from vq_core.store.reader import Artifact, open_artifact
from vq_core.store.writer import Header
from vq_core.topology import Group, shard_of

KIND = "activation-stats"
FORMAT = 2
BRANCHES = ("cond", "uncond")
OUTLIERS = 64

Split = Literal["fit", "held-out"]
NOISE_LEVELS = ("flow_shift", "boundary_ratio")
"""Settings that say which noise levels the transformers were called at."""
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_PARTS: dict[Split, str] = {"fit": "fit", "held-out": "held_out"}
"""The part of a tensor's name that stands for the split."""

TABLE_COLUMNS = ("bucket", "branch", "key", "prompt", "step", "token")
"""Columns of `tokens.fit` and `tokens.held_out`; rows are sorted by them in this order."""


@dataclass(frozen=True)
class GroupStats:
    """Statistics of one group's input.

    Attributes:
        absmax: fp32 `[buckets, branches, in]`.
        mean_abs: fp64 `[buckets, branches, in]`, zero without tokens.
        count: int64 `[buckets, branches]`, number of tokens.
    """

    absmax: Tensor
    mean_abs: Tensor
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
        """Number of tokens in all buckets and branches."""
        return int(self.count.sum())


@dataclass(frozen=True)
class Tokens:
    """Rows of a group's input.

    Attributes:
        rows: bf16 `[n, in]`.
        weight: fp32 `[n]`, mean 1. Buckets with video tokens have equal total weights; a condition's row weighs as much
            as the tokens that it stands for.
        bucket: int64 `[n]`, the bucket of sigma; -1 if the input does not depend on sigma.
    """

    rows: Tensor
    weight: Tensor
    bucket: Tensor


class ActivationStats:
    """An opened activation-stats artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @cached_property
    def _groups(self) -> dict[str, dict[str, Group]]:
        """Groups by component and name."""
        manifest = self.artifact.manifest
        topology = family_named(manifest.family).topology
        return {
            component: {group.name: group for group in topology(entry.config).groups}
            for component, entry in manifest.components.items()
        }

    @property
    def noise_levels(self) -> dict[str, JsonValue]:
        """The scheduler's shift and the experts' boundary of the run, by `NOISE_LEVELS`, where it recorded them."""
        settings = self.artifact.manifest.settings
        return {key: settings[key] for key in NOISE_LEVELS if settings.get(key) is not None}

    @property
    def unguided_sampling(self) -> dict[str, JsonValue]:
        """Steps and guidance of a run without guidance, such as that of a distilled model; else empty.

        Raises:
            VqError: one is out of its range.
        """
        settings = self.artifact.manifest.settings
        scale = settings.get("guidance_scale")
        if not isinstance(scale, int | float) or is_guided(scale):
            return {}
        said = {key: settings[key] for key in ("steps", "guidance_scale")}
        return checked(said, self.artifact.path / FILE_NAME)

    def groups(self, component: str) -> tuple[str, ...]:
        """Names of the groups of a component, in the order of the model."""
        return tuple(self._groups[component])

    def verify(self, component: str, shard: str) -> None:
        """Compare the digest of the file of `shard` before another thread may read it.

        Raises:
            VqError: it is not the file that was written.
        """
        groups = [group for group in self.groups(component) if shard_of(group) == shard]
        self.artifact.verify(component, [f"{group}.absmax" for group in groups])

    def group(self, component: str, group: str) -> GroupStats:
        """The statistics of one group of one component."""
        names = [f"{group}.{part}" for part in ("absmax", "abs_sum", "count")]
        absmax, abs_sum, count = self.artifact.tensors(component, names).values()
        return GroupStats(absmax, abs_sum / count.clamp(min=1).unsqueeze(-1), count)

    def absmax(self, component: str, group: str) -> Tensor:
        """Absmax of a group's input over all tokens, fp32 `[in]`.

        Raises:
            VqError: the group has no tokens.
        """
        absmax = self._tensor(component, f"{group}.absmax").amax(dim=(0, 1))
        if not torch.any(absmax > 0):
            raise VqError(
                f"{self.artifact.path} saw no input of {group} in {component}: "
                "collect with prompts and steps that reach it."
            )
        return absmax

    def histogram(self, component: str, group: str, quantity: Literal["absmax", "crest"]) -> Tensor:
        """Number of tokens by `quantity`, int64 `[buckets, branches, bins]`, in the bins of `HISTOGRAMS`."""
        return self._tensor(component, f"{group}.{quantity}_histogram")

    @property
    def has_tokens(self) -> bool:
        """Whether the statistics include sampled tokens."""
        return all(
            f"tokens.{SPLIT_PARTS[split]}" in entry.tensors
            for entry in self.artifact.manifest.components.values()
            for split in SPLITS
        )

    def sampled(self, component: str, split: Split) -> int:
        """Number of rows that `split` has of every group that reads the video; 0 without sampled tokens."""
        entry = self.artifact.manifest.components[component].tensors.get(f"tokens.{SPLIT_PARTS[split]}")
        return entry.shape[0] if entry else 0

    def tokens(self, component: str, group: str, split: Split, device: str = "cpu") -> Tokens:
        """The sampled rows of one group, on `device`; of a group that reads a condition, every distinct row in `split`.

        Rows of the groups that read the video are aligned: row j of each is the same token.

        Raises:
            VqError: no tokens were sampled, or the split has none.
        """
        self._require_tokens()
        if self._reads_video(component, group):
            names = [f"{group}.{SPLIT_PARTS[split]}", f"tokens.{SPLIT_PARTS[split]}"]
            rows, table = self.artifact.tensors(component, names, device).values()
            bucket = table[:, TABLE_COLUMNS.index("bucket")]
            weight = _bucket_weight(bucket)
        else:
            names = [f"{group}.rows", f"{group}.row_counts"]
            rows, counts = self.artifact.tensors(component, names, device).values()
            count = counts[:, SPLITS.index(split)]
            rows, count = rows[count > 0], count[count > 0]
            weight = (count.double() / count.double().mean()).float()
            bucket = torch.full_like(count, -1)
        if not len(rows):
            raise VqError(
                f"{self.artifact.path} holds no {split} tokens of {group} in {component}: "
                "merge it with the other parts, or collect with more prompts."
            )
        return Tokens(rows, weight, bucket)

    def outliers(self, component: str, group: str) -> Tensor:
        """The rows of highest absmax over all tokens of the run, highest first, bf16 `[m, in]`, m ≤ 64.

        Raises:
            VqError: the group reads a condition, and no rows were sampled.
        """
        if self._reads_video(component, group):
            return self._tensor(component, f"{group}.outliers")
        self._require_tokens()
        rows = self._tensor(component, f"{group}.rows")
        return rows[rows.abs().amax(dim=1).argsort(descending=True, stable=True)[:OUTLIERS]]

    def _require_tokens(self) -> None:
        if not self.has_tokens:
            raise VqError(f"{self.artifact.path} holds no sampled tokens: collect again with --tokens.")

    def _tensor(self, component: str, name: str) -> Tensor:
        return self.artifact.tensors(component, [name])[name]

    def _reads_video(self, component: str, group: str) -> bool:
        known = self._groups[component].get(group)
        return known is None or known.sequence == "video"  # an unknown one is refused when its tensor is looked up


def _bucket_weight(bucket: Tensor) -> Tensor:
    """Weights fp32 `[n]` of mean 1 that give every bucket in int64 `bucket` `[n]` the same sum."""
    counts = torch.bincount(bucket, minlength=BUCKETS).double()
    share = len(bucket) / (counts > 0).sum()
    return (share / counts[bucket]).float()


def stats_header(tool: str, source: Source, settings: Mapping[str, object]) -> Header:
    """Header of the statistics of the model `source`."""
    return model_header(source, KIND, FORMAT, tool=tool, settings=dict(settings))  # type: ignore[arg-type]


def open_stats(path: Location) -> ActivationStats:
    """Open the activation-stats artifact in `path`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    with models_told(path):
        return ActivationStats(open_artifact(path, KIND, FORMAT))
