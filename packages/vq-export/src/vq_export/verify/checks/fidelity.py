"""How far each tensor of a checkpoint is from the full-precision one, smoothing accounted for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.folding import fold_group
from vq_core.runtime.progress import progress
from vq_core.topology import Group, LinearSink, ModulationSink, Topology
from vq_export.verify.checks.centering import Centered
from vq_export.verify.checks.gains import NON_BLOCK, RATIO_TOLERANCE, GainFinder, Gains
from vq_export.verify.checks.linear_error import LinearError, linear_error
from vq_export.verify.reference import Reference

STORED_ROUNDING = 2.0**-8
"""Largest relative error of a folded tensor that was rounded to bfloat16 once or twice."""
FOLDED_ELSEWHERE = 4 * STORED_ROUNDING
"""The same of up to three roundings: that of the tensor, of the one whose ratio tells the gain, and of the gain."""
SMALLEST_HALF = 2.0**-24
"""Absolute error of small values in float16, in which plain tensors may be stored."""
NEAREST = ("rtn", "clip")
"""Rounders whose codes are the nearest ones at their scale; others move the error of a column into later ones."""


@dataclass(frozen=True)
class Fidelity:
    """How one transformer differs from its reference.

    Attributes:
        linears: errors by name.
        other: names of the tensors that are not quantized and differ.
    """

    linears: dict[str, LinearError] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)


def compare(checkpoint: ConvertedCheckpoint, reference: Reference, *, device: str = "cpu") -> dict[str, Fidelity]:
    """Compare every tensor of `checkpoint` with that of `reference`, by component. Host memory: one linear."""
    found: dict[str, Fidelity] = {}
    total = sum(len(component.topology.shards()) for component in checkpoint.components.values())
    with progress("compare", total, "shard") as advance:
        for name, component in checkpoint.components.items():
            original = reference.components[name]
            finder = gain_finder(checkpoint, name, reference, device)
            shared = finder.gains(NON_BLOCK, {})
            found[name] = Fidelity()
            corrected = frozenset() if reference.smoothed else corrected_biases(checkpoint, name)
            centered = Centered(checkpoint, name)
            moved = frozenset() if reference.smoothed else centered.tensors
            for shard, names in component.topology.plain_shards().items():
                gains = finder.gains(shard, shared)
                for linear in component.topology.linears:
                    if linear.shard == shard:
                        found[name].linears[linear.name] = linear_error(
                            folded(original, f"{linear.name}.weight", gains, device).float(),
                            component.linear(linear.name, device),
                            nearest=rounds_to_nearest(checkpoint),
                        )
                compared = component.plain((tensor for tensor in names if tensor not in corrected | moved), device)
                expected = partial(_unquantized, component.topology, reference, name, gains, device)
                tolerance = partial(_tolerance, finder, reference)
                found[name].other.extend(_differing(compared, expected, tolerance))
                if moved:
                    stored, exact = partial(_fp32, component, {}, device), partial(_fp32, original, gains, device)
                    # With 8 bits that factor is exact, up to bfloat16.
                    in_groups = (RATIO_TOLERANCE[scheme.name] for scheme in checkpoint.schemes if scheme.grouped)
                    row_error = max(in_groups, default=0.0)
                    found[name].other.extend(centered.misfits(shard, stored, exact, gains, corrected, row_error))
                advance()
    return found


def gain_finder(checkpoint: ConvertedCheckpoint, name: str, reference: Reference, device: str) -> GainFinder:
    """Finds how the component `name` was smoothed."""
    smooth = cast(dict[str, Any], checkpoint.artifact.manifest.settings.get("smooth", {}))
    rescaled = smooth.get("method") == "auto"
    component, original = checkpoint.components[name], reference.components[name]
    changed = corrected_biases(checkpoint, name) | Centered(checkpoint, name).tensors
    return GainFinder(component, original, reference.smoothed, rescaled, changed, device)


def rounds_to_nearest(checkpoint: ConvertedCheckpoint) -> bool:
    """Are the codes the nearest ones at their scale?"""
    how = cast(dict[str, str], checkpoint.artifact.manifest.settings["quantize"])
    return how["method"] in NEAREST


def corrected_biases(checkpoint: ConvertedCheckpoint, name: str) -> frozenset[str]:
    """Names of the biases that rounding has corrected, which differ from the model's."""
    measured = checkpoint.components[name].measured
    return frozenset(f"{linear}.bias" for linear, how in measured.items() if how.get("bias_corrected"))


def folded(original: TransformerReader[object], name: str, gains: Mapping[Group, Tensor], device: str) -> Tensor:
    """The tensor `name` of `original` as smoothing with `gains` changes it."""
    tensors = original.plain([name], device)
    for group, gain in gains.items():
        fold_group(tensors, group, gain)
    return tensors[name]


def _fp32(transformer: TransformerReader[object], gains: Gains, device: str, name: str) -> Tensor:
    return folded(transformer, name, gains, device).float()


def _unquantized(
    topology: Topology, reference: Reference, component: str, gains: Gains, device: str, name: str
) -> Tensor:
    """The tensor `name` fp32 as smoothing changes it; the weight of a kept linear reads no gain of a modulated norm."""
    original, group = reference.components[component], _input_of_kept(topology, name)
    tensor = folded(original, name, gains, device).float()
    if group is None or not isinstance(group.sink, ModulationSink) or not reference.smoothed:
        return tensor
    return tensor * cast(Tensor, original.gain(group.sink.gain, device))


def _tolerance(finder: GainFinder, reference: Reference, name: str) -> float:
    """Relative error that the stored tensor `name` may have."""
    group = _input_of_kept(finder.component.topology, name)
    sink = None if group is None else group.sink or group.gelu_sink
    if isinstance(sink, LinearSink) and not finder.smoothed:
        rounded = any(f"{it}.weight" in finder.component.topology.weights for it in sink.linears)
        if rounded and finder.changed >= {f"{it}.bias" for it in sink.linears}:
            # Its columns are over a gain that rounded weights alone tell.
            return max(finder.row_tolerance(linear) for linear in sink.linears)
    return FOLDED_ELSEWHERE if reference.folded_elsewhere else STORED_ROUNDING


def _input_of_kept(topology: Topology, weight: str) -> Group | None:
    """The group whose input a linear in full precision reads; None where `weight` is not that of one."""
    linear = weight.removesuffix(".weight")
    return topology.group_of(linear) if linear in {kept.name for kept in topology.kept} else None


def _differing(
    plain: Mapping[str, Tensor], exact: Callable[[str], Tensor], tolerance: Callable[[str], float]
) -> Iterator[str]:
    """Those of the `plain` tensors that differ from the `exact` ones by more than the relative `tolerance`."""
    for name, tensor in plain.items():
        expected = exact(name)
        difference = (tensor.float() - expected).abs()
        if not (difference <= tolerance(name) * expected.abs() + SMALLEST_HALF).all():
            yield name
