"""Quantization of a whole model: smoothed weights in, codes and scales out, one block at a time."""

import logging
import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_algos.rounding.basis import Basis, is_better_centered, rotated_basis, rounded
from vq_algos.rounding.bias_and_score import correct_and_score
from vq_algos.rounding.full_fp32 import full_fp32
from vq_algos.rounding.keep import kept_linears, shared_inputs
from vq_algos.rounding.means import Means
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.rounding.rounders import rounder_named
from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_algos.rounding.scheme_choice import RoundedInput, best_scheme
from vq_algos.rounding.shared_means import decide_shared_means, read_means
from vq_algos.smoothed_for import other_scheme, target_of
from vq_core import __version__
from vq_core.artifacts import qparams as qparams_artifact
from vq_core.artifacts.components import headers_in
from vq_core.artifacts.decisions import drafted_decisions, has_decided, written_behind
from vq_core.artifacts.kept_names import KEPT
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import SmoothedTransformer, SmoothedWeights
from vq_core.errors import VqError
from vq_core.files.read_ahead import read_ahead
from vq_core.numerics import grouped
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import dequantize, snr_db
from vq_core.numerics.rotation import NONE, largest_group
from vq_core.numerics.scheme import NumberFormat, QuantScheme, Rounding
from vq_core.recipes.ignored import ignored_linears
from vq_core.remote.location import Location
from vq_core.runtime.progress import progress
from vq_core.store.reader import require_same_model
from vq_core.store.writer import ArtifactWriter, Header, create_artifact
from vq_core.targets import Target, require_mixed, require_rotation, require_scheme, target_named
from vq_core.topology import NON_BLOCK, Group, shard_of

logger = logging.getLogger(__name__)


def quantize(
    weights: SmoothedWeights,
    settings: QuantizeSettings,
    output: Location,
    *,
    stats: ActivationStats | None = None,
    device: str = "cpu",
    resume: bool = False,
) -> None:
    """Write the quant-params artifact of `weights` to `output`.

    With `stats`, every linear is judged on held-out tokens and its bias corrected, whatever the method. Host memory
    without them: the linears of one group, and one block's codes. With them: see docs/measurements.md. The manifest
    says so where the weights were smoothed for another scheme.

    Raises:
        VqError: the target of the weights has no place for the scheme or cannot rotate; the statistics are missing,
            without tokens or of another model; a weight or token is not finite; or an artifact is damaged.
    """
    target = target_named(target_of(weights))
    require_scheme(target.name, settings.scheme)
    _require_widths(settings.schemes, weights)
    if settings.rotate != "none":
        require_rotation(target.name)
    if settings.keeps:
        require_mixed(target.name)
        for part in weights.components.values():
            ignored_linears(settings.rules, part.topology)  # refuses a rule about what is not there
    _require_tokens(settings, stats, weights)
    manifest = weights.artifact.manifest
    parents = [weights.artifact, *([stats.artifact] if stats else [])]
    judged = stats is not None
    settings = replace(settings, bias_correction=settings.bias_correction and judged, center=settings.center and judged)
    smoothed_for = other_scheme(weights, settings.scheme)
    header = Header(
        kind=qparams_artifact.KIND,
        format=qparams_artifact.FORMAT,
        tool=f"vq-algos {__version__}",
        family=manifest.family,
        model=manifest.model,
        components=headers_in({name: name for name in weights.components}, weights.components),
        settings=asdict(settings)
        | {"keep": list(settings.keep)}
        | ({"smoothed_for": smoothed_for} if smoothed_for else {}),
        parents={parent.manifest.kind: parent.digest for parent in parents},
    )
    total = sum(component.topology.num_blocks for component in weights.components.values())
    with create_artifact(output, header, resume=resume) as writer, full_fp32():
        component_of = partial(_Component, settings=settings, stats=stats, device=device, target=target)
        if settings.center:
            for name, weights_of in weights.components.items():
                component_of(name, weights_of).center_shared(writer)
        with progress("quantize", total, "block") as advance, written_behind(device) as write:
            for name, weights_of in weights.components.items():
                means = read_means(writer, _file_of(name, NON_BLOCK)) if settings.center else {}
                component = component_of(name, weights_of, shared_means=means)
                for block in read_ahead(weights_of.topology.block_shards, weights_of.verify):
                    file = _file_of(name, block)
                    if not has_decided(writer, file):
                        # Bound to no name here, or one block's codes would live on while the next is quantized.
                        write(writer, file, *component.quantize_block(block))
                    advance()
        if settings.keeps:
            writer.note_measured(_kept(weights, settings, writer))


def _require_widths(schemes: Iterable[QuantScheme], weights: SmoothedWeights) -> None:
    """Refuse linears of which a row does not fill whole groups of one of the schemes."""
    linears = [linear for component in weights.components.values() for linear in component.topology.linears]
    for scheme, linear in product(schemes, linears):
        if not grouped.fits(scheme.bits, linear.in_features):
            raise VqError(
                f"`{linear.name}` reads {linear.in_features} channels, and {scheme.name} needs a multiple of "
                f"{grouped.MULTIPLE[scheme.bits]}: take int8."
            )


def _file_of(component: str, block: str) -> str:
    return f"{component}/{block}.safetensors"


def _kept(weights: SmoothedWeights, settings: QuantizeSettings, writer: ArtifactWriter) -> dict[str, JsonValue]:
    """What the manifest says of the linears that stay in full precision; all components share `keep_size`."""
    inputs = [
        it
        for name, component in weights.components.items()
        for it in shared_inputs(
            name,
            component.topology,
            _decided(writer, name, component),
            settings.scheme,
            ignored_linears(settings.rules, component.topology),
        )
    ]
    size = settings.keep_size if settings.keeps_the_worst else 0
    kept = kept_linears(inputs, size=size, min_snr_db=settings.min_snr)
    if {name: len(linears) for name, linears in kept.items()} == {
        name: len(component.topology.linears) for name, component in weights.components.items()
    }:
        raise VqError("Every linear would stay in full precision: keep less, and choose another --output.")
    return {KEPT: {name: list(linears) for name, linears in kept.items()}}


def _decided(writer: ArtifactWriter, name: str, component: SmoothedTransformer) -> dict[str, Any]:
    """What was decided for each linear of a component, now or by the run that is being resumed."""
    files = [_file_of(name, block) for block in component.topology.block_shards]
    return {linear: decision for file in files for linear, decision in drafted_decisions(writer, file).items()}


def _require_tokens(settings: QuantizeSettings, stats: ActivationStats | None, weights: SmoothedWeights) -> None:
    method = settings.method
    if stats is None:
        asked = {method: rounder_named(method).NEEDS_TOKENS, "--rotate auto": settings.rotate == "auto"}
        asked |= {f"--scheme {settings.scheme}": len(settings.schemes) > 1}
        asked |= {"--keep-size": settings.keep_size is not None, "--min-snr": settings.min_snr is not None}
        if what := next((name for name, needs_tokens in asked.items() if needs_tokens), None):
            raise VqError(
                f"`{what}` needs sampled tokens of the activation statistics: "
                "run vq-calib collect with --tokens and give its output as --stats."
            )
        return
    fingerprints = {name: component.fingerprint for name, component in weights.components.items()}
    require_same_model(stats.artifact, fingerprints, weights.artifact.path)
    if not stats.has_tokens:
        raise VqError(
            f"{stats.artifact.path} holds no sampled tokens to solve or judge `{method}` on: "
            "collect again with --tokens, or leave out --stats where the method needs none."
        )


@dataclass(frozen=True)
class _Component:
    """One transformer and how it is quantized for a runtime.

    `shared_means` are subtracted from the inputs that all blocks read, by group.
    """

    name: str
    weights: SmoothedTransformer
    settings: QuantizeSettings
    stats: ActivationStats | None
    device: str
    target: Target
    shared_means: Mapping[str, Tensor] = field(default_factory=dict)

    def center_shared(self, writer: ArtifactWriter) -> None:
        """Decide on the inputs that all blocks read, unless that was done."""
        file = _file_of(self.name, NON_BLOCK)
        decide_shared_means(writer, file, self._means, self._tensor, self._is_better_centered)

    def quantize_block(self, block: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Codes, scales and corrected biases of one block; what was decided for each linear, and its error."""
        tensors: dict[str, Tensor] = {}
        decisions: dict[str, Any] = {}
        for group in self.weights.topology.groups:
            linears = [linear for linear in group.reads if shard_of(linear) == block]
            if linears:
                self._quantize_group(group, linears, tensors, decisions)
        names = [linear.name for linear in self.weights.topology.linears if linear.shard == block]
        return tensors, {name: decisions[name] for name in names}

    @cached_property
    def _inputs(self) -> SampledInputs | None:
        if self.stats is None:
            return None
        return SampledInputs(self.name, self.weights, self.stats, self.device, self.shared_means)

    @cached_property
    def _means(self) -> Means:
        """Those that can be subtracted where inputs are centered."""
        assert self._inputs is not None
        return Means(self.weights, self._inputs, self.device, self.shared_means, self.target.subtracts)

    def _quantize_group(
        self, group: Group, linears: list[str], tensors: dict[str, Tensor], decisions: dict[str, Any]
    ) -> None:
        """Quantize the linears of a group that lie in one block into `tensors` and `decisions`."""
        weights = {linear: self._tensor(f"{linear}.weight") for linear in linears}
        rounded_in = partial(self._rounded, group, weights, tensors)
        schemes = self.settings.schemes
        if len(schemes) == 1:
            found, how = rounded_in(schemes[0]), {}
        else:
            scheme, found = best_scheme(schemes, rounded_in, self.settings.min_snr)
            how = {"scheme": scheme.name}
        tensors |= found.tensors
        decisions |= {linear: {**how, **decision} for linear, decision in found.decisions.items()}

    def _rounded(
        self, group: Group, weights: Mapping[str, Tensor], before: dict[str, Tensor], scheme: QuantScheme
    ) -> RoundedInput:
        """The linears of `weights`, which read the input of `group`; `before` are tensors that have changed already."""
        tensors, decisions = dict[str, Tensor](), dict[str, dict[str, Any]]()
        current = partial(self._current, tensors=ChainMap(tensors, before))
        basis, found, nearest = rounded(
            self.settings.rotate,
            partial(self._basis, group, list(weights.values()), scheme.activation),
            largest_group(group.in_features, self.target.rotation),
            self._means.of(group, current) if self.settings.center else None,
            rounder_named(self.settings.method),
            scheme,
            Rounding(self.settings.rounding),
            decided=group.name in self.shared_means,
        )
        if basis.mean is not None:
            tensors |= self._means.changed(group, weights, basis.mean, current)
        for index, (linear, weight, one) in enumerate(zip(weights, basis.weights, found, strict=True)):
            dequantized = dequantize(one.quantized)
            tensors |= {
                f"{linear}.{part}": tensor.cpu() for part, tensor in qparams_artifact.stored(one.quantized).items()
            }
            if basis.rotation != NONE:
                tensors[f"{linear}.rotation"] = torch.tensor(basis.rotation)
            snr = snr_db(weight, dequantized)
            # JSON has no infinity: null says that the codes hold the weight exactly.
            weight_snr_db = round(snr, 3) if math.isfinite(snr) else None
            decisions[linear] = {**one.decision, **basis.decision, "weight_snr_db": weight_snr_db}
            if basis.inputs is not None:
                # What is centered has nothing to correct: the mean is what quantization would shift.
                correct = self.settings.bias_correction and basis.mean is None
                scored = correct_and_score(weight, dequantized, basis.inputs, nearest[index], correct_bias=correct)
                decisions[linear] |= scored.figures
                if scored.shift is not None:
                    tensors[f"{linear}.bias"] = (current(f"{linear}.bias") + scored.shift).cpu()
            logger.debug("%s: %s", linear, decisions[linear])
        return RoundedInput(tensors, decisions)

    def _basis(
        self, group: Group, weights: list[Tensor], activation: NumberFormat, rotation: int, mean: Tensor | None
    ) -> Basis:
        inputs = self._inputs.inputs_of(group, activation, rotation, mean) if self._inputs else None
        return rotated_basis(weights, inputs, rotation, mean)

    def _is_better_centered(self, group: Group, linears: Sequence[str], mean: Tensor) -> bool:
        weights = [self._tensor(f"{linear}.weight") for linear in linears]
        rotation, rounding = largest_group(group.in_features, self.target.rotation), Rounding(self.settings.rounding)
        return all(
            is_better_centered(
                self.settings.rotate,
                partial(self._basis, group, weights, scheme.activation),
                rotation,
                mean,
                scheme,
                rounding,
            )
            for scheme in self.settings.schemes
        )

    def _current(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """The tensor `name` in fp32, as it has become so far."""
        return tensors[name].to(self.device) if name in tensors else self._tensor(name)

    def _tensor(self, name: str) -> Tensor:
        """A tensor of the smoothed weights, fp32."""
        tensor = self.weights.plain([name], self.device)[name]
        require_finite(tensor, name, "the smoothed weights")
        return tensor.float()
