"""Smooth a whole model: statistics and weights in, folded weights out, one block at a time."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vq_algos.smoothing.across_blocks import smoothing_across
from vq_algos.smoothing.gelu_rescale import FeedForward, rescaling
from vq_algos.smoothing.one_by_one import OneByOne
from vq_algos.smoothing.smoothers import smoother_named
from vq_algos.smoothing.smoothers.awq import VERSIONS
from vq_algos.smoothing.smoothing_error import gain_of
from vq_algos.smoothing.smoothing_figures import feed_forward_figures, figures
from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem
from vq_core import __version__
from vq_core.artifacts import weights as weights_artifact
from vq_core.artifacts.components import model_header
from vq_core.artifacts.decisions import has_decided, written_behind
from vq_core.artifacts.stats import ActivationStats
from vq_core.errors import VqError
from vq_core.families import Family
from vq_core.files.buffers import Buffers
from vq_core.files.read_ahead import read_ahead
from vq_core.model.source import Source, SourceTransformer
from vq_core.numerics.finite import require_finite
from vq_core.numerics.folding import fold_group
from vq_core.numerics.rotation import largest_group
from vq_core.numerics.scheme import NumberFormat, QuantScheme, schemes_named
from vq_core.remote.location import Location
from vq_core.runtime.progress import progress
from vq_core.sampling.model_defaults import sampled_as
from vq_core.store.reader import require_same_model
from vq_core.store.writer import create_artifact
from vq_core.targets import require_scheme, target_named
from vq_core.topology import Group, ModulationSink, Topology, block_of, shard_of

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GROUP_SETS = ("all", "llmc")

Smoothed = tuple[Tensor, dict[str, Any]]
"""A group's gain, fp32 `[in]`, and what was decided for it."""


@dataclass(frozen=True)
class SmoothSettings:
    """How to smooth.

    Attributes:
        method: a smoother's name.
        scheme: the scheme of the later quantization, for smoothers that try it; None if it is not known yet.
        alpha: SmoothQuant's migration strength, 0 to 1.
        awq_version: AWQ's family of scales, `v1` or `v2`.
        groups: `all` exact folds, or only the three per block that LLMC smooths (`llmc`).
        target: the runtime's name. For one without gains the modulated norms of all blocks are smoothed alike.
        dtype: the dtype of folded tensors, `fp32` or `bf16`.
    """

    method: str = "smoothquant"
    scheme: str | None = None
    alpha: float = 0.75
    awq_version: str = "v2"
    groups: str = "all"
    target: str = "lightx2v"
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        smoother = smoother_named(self.method)
        if self.scheme is not None:
            schemes_named(self.scheme)
        elif "scheme" in smoother.NEEDS:
            raise VqError(f"`--scheme` is missing: `{self.method}` tries the quantization to come; give int8 or fp8.")
        if self.awq_version not in VERSIONS:
            raise VqError(f"`{self.awq_version}` is not a version of awq: choose one of {', '.join(VERSIONS)}.")
        if not 0 <= self.alpha <= 1:
            raise VqError(f"alpha is {self.alpha} and must lie between 0 and 1: 0.75 is a good start.")
        if self.groups not in GROUP_SETS:
            raise VqError(f"`{self.groups}` is not a set of groups: choose one of {', '.join(GROUP_SETS)}.")
        target_named(self.target)
        if self.scheme is not None:
            require_scheme(self.target, self.scheme)
        if self.dtype not in DTYPES:
            raise VqError(f"`{self.dtype}` is not a dtype for folded weights: choose one of {', '.join(DTYPES)}.")


def smooth(
    source: Source,
    stats: ActivationStats | None,
    settings: SmoothSettings,
    output: Location,
    *,
    device: str = "cpu",
    resume: bool = False,
) -> None:
    """Write the smoothed-weights artifact of `source` to `output`.

    If the statistics hold sampled tokens and the scheme is known, every decision records the SNR of the group's outputs
    on held-out tokens. Host memory: one block in its own dtype and twice in that of folded tensors, and the block's
    tokens.

    Raises:
        VqError: the statistics are missing, of another model, or lack a group or the tokens that the method needs; a
            weight is not finite.
    """
    if source.has_gains:
        raise VqError(
            f"{source.name} is smoothed already (it brings gains of its norms): convert it with "
            "`vq-export lightx2v --model`, or smooth the model that it was made from."
        )
    _require_statistics(source, stats, settings.method)
    header = model_header(
        source,
        weights_artifact.KIND,
        weights_artifact.FORMAT,
        tool=f"vq-algos {__version__}",
        settings=asdict(settings) | _sampling(source, stats),
        parents={stats.artifact.manifest.kind: stats.artifact.digest} if stats else {},
    )
    total = sum(len(checkpoint.topology.shards()) for checkpoint in source.components.values())
    with (
        create_artifact(output, header, resume=resume) as writer,
        progress("smooth", total, "shard") as advance,
        written_behind(device) as write,
    ):
        for name, checkpoint in source.components.items():
            topology = checkpoint.topology
            groups = _groups(settings, topology, source.family)
            component = _Component(name, checkpoint, groups, stats, settings, device)
            for shard in read_ahead(topology.shards(), component.verify):
                file = f"{name}/{shard}.safetensors"
                if not has_decided(writer, file):
                    # Bound to no name here, or one block would live on while the next is folded.
                    write(writer, file, *component.smooth_shard(shard))
                advance()


def _sampling(source: Source, stats: ActivationStats | None) -> dict[str, Any]:
    """How the model is sampled, if it or its calibration says so; later stages have neither."""
    sampling = sampled_as(source.path) | (stats.noise_levels | stats.unguided_sampling if stats else {})
    return {"sampling": sampling} if sampling else {}


def _groups(settings: SmoothSettings, topology: Topology, family: Family) -> list[Group]:
    """The groups to smooth; each has a sink that the target has a place for."""
    groups = family.llmc_groups(topology) if settings.groups == "llmc" else topology.groups
    smoothed = [group for group in groups if group.sink is not None]
    if target_named(settings.target).gains:
        return smoothed
    return [group for group in smoothed if not isinstance(group.sink, ModulationSink)] + list(topology.across_blocks)


def _require_statistics(source: Source, stats: ActivationStats | None, method: str) -> None:
    needs = smoother_named(method).NEEDS
    if stats is None:
        if "statistics" in needs:
            raise VqError(
                f"`{method}` needs activation statistics: run vq-calib collect and give its output as --stats."
            )
        return
    require_same_model(stats.artifact, source.fingerprints, source.name)
    if "tokens" in needs and not stats.has_tokens:
        raise VqError(
            f"`{method}` needs sampled tokens and {stats.artifact.path} holds none: run vq-calib collect with --tokens."
        )


@dataclass(frozen=True)
class _Component:
    """One transformer and how it is smoothed.

    Every gain is derived from the original weights, so the order of groups and shards does not matter.
    """

    name: str
    checkpoint: SourceTransformer
    groups: list[Group]
    stats: ActivationStats | None
    settings: SmoothSettings
    device: str

    def smooth_shard(self, shard: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Folded tensors of one shard, and what was decided for the groups that belong to it."""
        topology = self.checkpoint.topology
        original = self._load(topology.shards()[shard])
        across = [group for group in self.groups if group.members]
        here = [group for group in (*topology.groups, *across) if shard_of(group.name) == shard]
        ones = {group.gain: torch.ones(group.in_features, device=self.device) for group in here}
        tensors = original | ones
        smoothed = dict(self._shared)
        for group in self.groups:
            if block_of(group.name) is not None and shard_of(group.name) == shard:
                smoothed[group] = self._smoothed(group, [original[name] for name in _weight_names(group)])
        if self.settings.method == "auto":
            smoothed |= self._rescaled(here, original, smoothed)
        for group, (gain, _) in smoothed.items():
            if not torch.all(gain == 1):  # a fold of ones would only change the dtype
                fold_group(tensors, _exactly(group), gain)
            if group.gain in ones:
                tensors[group.gain] = gain
        for name in original:
            if tensors[name] is not original[name]:
                require_finite(tensors[name], name, "the folded weights")
                tensors[name] = tensors[name].to(DTYPES[self.settings.dtype])
        decisions = {group.name: smoothed[group][1] for group in smoothed if shard_of(group.name) == shard}
        return {name: self._on_host(tensor) for name, tensor in tensors.items()}, decisions

    def verify(self, shard: str) -> None:
        """Compare the digest of the statistics of `shard` before they are read, which may happen in another thread."""
        if self.stats is not None:
            self.stats.verify(self.name, shard)

    def _on_host(self, tensor: Tensor) -> Tensor:
        """`tensor`, copied from a GPU into memory that an earlier block has used."""
        if tensor.device.type == "cpu":
            return tensor
        return self._memory.take(tensor.nbytes).view(tensor.dtype).reshape(tensor.shape).copy_(tensor)

    @cached_property
    def _memory(self) -> Buffers:
        """Memory for two blocks: one is written while the next is copied."""
        return Buffers(kept=2 * max(len(names) for names in self.checkpoint.topology.shards().values()))

    @cached_property
    def _shared(self) -> dict[Group, Smoothed]:
        """The groups that span all blocks; their weights are loaded one at a time, when they are needed."""
        shared = [group for group in self.groups if block_of(group.name) is None]
        return {
            group: self._smoothed_across(group)
            if group.members
            else self._smoothed(group, OneByOne(self._weight, _weight_names(group)))
            for group in shared
        }

    def _load(self, names: Iterable[str]) -> dict[str, Tensor]:
        tensors = self.checkpoint.plain(names, self.device)
        for name, tensor in tensors.items():
            require_finite(tensor, name, self.checkpoint.folder)
        return tensors

    def _weight(self, name: str) -> Tensor:
        return self._load([name])[name]

    def _smoothed(self, group: Group, weights: Collection[Tensor]) -> Smoothed:
        problem = self._problem(group, weights)
        options = SmootherOptions(self.settings.alpha, self.settings.awq_version)
        smoothing = smoother_named(self.settings.method).smoothing(problem, options)
        return self._decided(group, smoothing, figures([problem], smoothing.s))

    def _smoothed_across(self, group: Group) -> Smoothed:
        problems = OneByOne(self._of_member, group.members)
        options = SmootherOptions(self.settings.alpha, self.settings.awq_version)
        smoothing = smoothing_across(problems, self.settings.method, options)
        return self._decided(group, smoothing, figures(problems, smoothing.s))

    def _of_member(self, group: Group) -> SmoothingProblem:
        if self.stats is not None:
            self.stats.verify(self.name, shard_of(group.name))
        return self._problem(group, list(self._load(_weight_names(group)).values()))

    def _gain(self, group: Group, smoothed: Mapping[Group, Smoothed]) -> Tensor:
        """1/s of the input of `group`, its own or that of all blocks."""
        across = self.checkpoint.topology.across(group)
        found = smoothed.get(group) or (smoothed.get(across) if across else None)
        return found[0] if found else torch.ones(group.in_features, device=self.device)

    def _rescaled(
        self, groups: Iterable[Group], original: Mapping[str, Tensor], smoothed: Mapping[Group, Smoothed]
    ) -> dict[Group, Smoothed]:
        """The groups behind GELU, if the scheme gains from rescaling through it."""
        scheme = self._scheme
        if scheme is None or scheme.activation is not NumberFormat.INT8 or self.stats is None:
            return {}
        rescaled = {}
        for group in groups:
            if group.gelu_sink is None:
                continue
            (up,), (down,) = group.gelu_sink.linears, group.reads
            above = self.checkpoint.topology.group_of(up)
            problem = FeedForward(
                original[f"{up}.weight"],
                original[f"{up}.bias"],
                original[f"{down}.weight"],
                self._gain(above, smoothed),
                self._absmax(group),
                self.stats.tokens(self.name, above.name, "fit", self.device),
                self.stats.tokens(self.name, above.name, "held-out", self.device),
                scheme,
                largest_group(group.in_features, target_named(self.settings.target).rotation),
            )
            smoothing = rescaling(problem)
            rescaled[group] = self._decided(group, smoothing, feed_forward_figures(problem, smoothing.s))
        return rescaled

    def _problem(self, group: Group, weights: Collection[Tensor]) -> SmoothingProblem:
        if self.stats is None:
            ones = torch.ones(group.in_features, device=self.device)
            return SmoothingProblem(weights, ones, ones)
        fit = held_out = None
        solves = "tokens" in smoother_named(self.settings.method).NEEDS
        if self.stats.has_tokens and (solves or self._scheme is not None):
            fit = self.stats.tokens(self.name, group.name, "fit", self.device)
            held_out = self.stats.tokens(self.name, group.name, "held-out", self.device)
        mean_abs = self.stats.group(self.name, group.name).overall_mean_abs.float().to(self.device)
        return SmoothingProblem(weights, self._absmax(group), mean_abs, fit, held_out, self._scheme)

    def _absmax(self, group: Group) -> Tensor:
        assert self.stats is not None
        absmax = self.stats.absmax(self.name, group.name)
        require_finite(absmax, f"{group.name}.absmax", self.stats.artifact.path)
        return absmax.to(self.device)

    @property
    def _scheme(self) -> QuantScheme | None:
        return None if self.settings.scheme is None else schemes_named(self.settings.scheme)[0]

    def _decided(self, group: Group, smoothing: Smoothing, measured: Mapping[str, Any]) -> Smoothed:
        """1/s as bfloat16 values, fp32 `[in]`, and the decision that the artifact records."""
        gain = gain_of(smoothing.s)
        s = 1 / gain
        decision = {
            "method": self.settings.method,
            **smoothing.decision,
            "s_min": float(s.min()),
            "s_median": float(s.median()),
            "s_max": float(s.max()),
            **measured,
        }
        logger.debug("%s: %s: %s", self.name, group.name, decision)
        return gain, decision


def _exactly(group: Group) -> Group:
    """The group with a sink that takes 1/s: behind GELU the approximate one."""
    return replace(group, sink=group.sink or group.gelu_sink)


def _weight_names(group: Group) -> list[str]:
    return [f"{linear}.weight" for linear in group.reads]
