"""What an export writes: a model with its provenance; quantized, from artifacts or straight from a model."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core import __version__
from vq_core.artifacts.components import headers_in
from vq_core.artifacts.kept import exact_bias, exact_weight
from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedTransformer, SmoothedWeights
from vq_core.families import Family
from vq_core.files.buffers import Buffers
from vq_core.model.source import Source, SourceTransformer
from vq_core.model.transformer_reader import CodesReader, DescribedTransformer, TransformerReader
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, quantize_weight_into, quantized_snr_db
from vq_core.numerics.rotation import NONE
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import QuantScheme, Rounding
from vq_core.store.reader import require_parent
from vq_core.store.writer import Header
from vq_export.model.derived import Derived
from vq_export.writing.overlap import WORKERS

TOOL = f"vq-export {__version__}"
METHOD = "rtn"
"""How a model that is converted is rounded."""
SMOOTHED_BEFORE = "llmc"
"""Who has smoothed a model that brings gains with it."""
SNR_EVERY = 32
"""The SNR of a converted weight is that of one row in 32: on all rows it would take as long as rounding."""


@dataclass(frozen=True)
class OpenedModel:
    """A model with its provenance; `parents` has the digest of each artifact that it comes from."""

    model: str
    family_name: str
    components: Mapping[str, DescribedTransformer[Tensor | Quantized]]
    settings: Mapping[str, JsonValue]
    parents: Mapping[str, str]

    @property
    def shards(self) -> int:
        """Number of the shards of all components."""
        return sum(len(component.topology.shards()) for component in self.components.values())

    def header(self, kind: str, fmt: int, folders: Mapping[str, str], settings: Mapping[str, JsonValue]) -> Header:
        """Header of the artifact that it is written to, with each component's files in the folder of `folders`."""
        components = headers_in(folders, self.components)
        return Header(kind, fmt, TOOL, self.family_name, self.model, components, dict(settings), dict(self.parents))


class QuantizedTransformer(CodesReader, DescribedTransformer[Quantized], Protocol):
    """One quantized transformer; its `plain` tensors are as the rounder corrected and centered them."""

    @property
    def unrounded(self) -> TransformerReader[Tensor]:
        """What was rounded: the same transformer, smoothed if it was, in full precision."""

    def rotation(self, linear: str) -> int:
        """How many channels of what `linear` reads are rotated together; 1 for none."""

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        """How `linear` was rounded and with what error, as quant-params say it; known once it has been read."""


def stored_plain(component: QuantizedTransformer, shard: str) -> dict[str, Tensor]:
    """The tensors of `shard` that are not quantized, as checkpoints hold them: those of blocks' linears in bfloat16.

    Runtimes cast biases as they load or multiply, LightX2V not from disk (`lazy_load`), where most of its kernels take
    no other dtype.
    """
    topology = component.topology
    plain = component.plain(topology.plain_shards()[shard])
    cast = topology.biases | {f"{linear.name}.{part}" for linear in topology.kept for part in ("weight", "bias")}
    return plain | {name: plain[name].bfloat16() for name in plain.keys() & cast}


@dataclass(frozen=True)
class QuantizedModel(OpenedModel):
    """A quantized model; `scheme` names that of all linears or those of which each has one.

    `tools` says by artifact what wrote it.
    """

    components: Mapping[str, QuantizedTransformer]
    family: Family
    scheme: str
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> Mapping[str, str]:
        """By component, the folder in a checkpoint that LightX2V or ComfyUI reads."""
        return self.family.expert_folders(tuple(self.components))

    @property
    def kept(self) -> dict[str, JsonValue]:
        """Names of the linears that stay in full precision, by component; empty without any."""
        topologies = {name: component.topology for name, component in self.components.items()}
        return {name: [linear.name for linear in it.kept] for name, it in topologies.items() if it.kept}

    @cached_property
    def rotated(self) -> bool:
        """Does any linear read a rotated input?"""
        return any(
            component.rotation(linear.name) != NONE
            for component in self.components.values()
            for linear in component.topology.linears
        )

    @cached_property
    def subtracts(self) -> bool:
        """Does any linear subtract the mean of its input?"""
        return any(
            component.input_mean(linear.name) is not None
            for component in self.components.values()
            for linear in component.topology.linears
        )

    @cached_property
    def has_gains(self) -> bool:
        """Is any gain of a modulated norm other than one?"""
        # One by one, because the first gain usually decides and each file's digest is checked before it is read.
        return any(
            bool((gain != 1).any())
            for component in self.components.values()
            for name in component.topology.gains
            if (gain := component.gain(name)) is not None
        )


class _CorrectedWeights(Derived):
    """Smoothed weights with the tensors that rounding has corrected or centered."""

    def __init__(self, name: str, weights: SmoothedTransformer, qparams: QuantParams) -> None:
        super().__init__(weights)
        self._name = name
        self._weights = weights
        self._qparams = qparams
        self._kept = {f"{linear}.bias": linear for linear in qparams.kept(name)}
        self.linear = weights.linear

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        tensors = super().plain(names, device)
        tensors |= self._qparams.replacements(self._name, tensors, device)
        kept = {name: self._kept[name] for name in tensors if name in self._kept}
        return tensors | {
            name: exact_bias(self._weights, self._qparams, self._name, linear, device) for name, linear in kept.items()
        }


class _RoundedWeights(Derived):
    """Smoothed weights and their quant params."""

    def __init__(self, name: str, weights: SmoothedTransformer, qparams: QuantParams) -> None:
        self.unrounded = _CorrectedWeights(name, weights, qparams)
        super().__init__(self.unrounded)
        self.topology = weights.topology.keeping(qparams.kept(name))
        self._name = name
        self._weights = weights
        self._qparams = qparams
        self._kept = {f"{linear.name}.weight": linear.name for linear in self.topology.kept}

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        tensors = super().plain(names, device)
        kept = {name: self._kept[name] for name in tensors if name in self._kept}
        return tensors | {name: exact_weight(self._weights, linear, device) for name, linear in kept.items()}

    def verify(self, shard: str) -> None:
        super().verify(shard)
        codes = [f"{linear.name}.codes" for linear in self.topology.linears if linear.shard == shard]
        self._qparams.artifact.verify(self._name, codes)

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        return self._qparams.linear(self._name, name, device)

    def scheme_of(self, linear: str) -> QuantScheme:
        return self._qparams.scheme_of(self._name, linear)

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        return self._qparams.input_mean(self._name, self.topology.group_of(linear), device)

    def rotation(self, linear: str) -> int:
        return self._qparams.rotation(self._name, linear)

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        decided: dict[str, JsonValue] = self._decisions[linear]
        return decided

    @cached_property
    def _decisions(self) -> dict[str, Any]:
        return self._qparams.decisions(self._name)


class _RoundedSource(Derived):
    """A plain model, rounded to nearest on `device` as it is read."""

    def __init__(self, source: SourceTransformer, scheme: QuantScheme, rounding: Rounding, device: str) -> None:
        super().__init__(source)
        self.unrounded = source
        self._scheme = scheme
        self._rounding = rounding
        self._device = device
        self._decided: dict[str, dict[str, JsonValue]] = {}
        in_a_shard = Counter(linear.shard for linear in self.topology.linears)
        self._memory = Buffers(kept=WORKERS * max(in_a_shard.values()))

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        tensors = super().plain(names, device)
        for name, tensor in tensors.items():
            require_finite(tensor, name, self.unrounded.folder)
        return tensors

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        weight = self.unrounded.linear(name, self._device)
        written = self._memory.take(weight.numel()).view(CODE_DTYPE[self._scheme.weight]).reshape(weight.shape)
        codes = written if weight.device == written.device else torch.empty_like(written, device=weight.device)
        scale = quantize_weight_into(codes, weight, self._scheme.weight, self._rounding)
        if not torch.isfinite(scale).all():
            require_finite(weight.float(), f"{name}.weight", self.unrounded.folder)
        snr = quantized_snr_db(weight[::SNR_EVERY], Quantized(codes[::SNR_EVERY], scale[::SNR_EVERY]))
        # JSON has no infinity: null says that the codes hold the weight exactly.
        self._decided[name] = {"method": METHOD, "weight_snr_db": round(snr, 3) if math.isfinite(snr) else None}
        return Quantized(written.copy_(codes).to(device), scale.to(device))

    def scheme_of(self, linear: str) -> QuantScheme:
        return self._scheme

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        return None

    def rotation(self, linear: str) -> int:
        return NONE

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        return self._decided[linear]


def from_artifacts(weights: SmoothedWeights, qparams: QuantParams) -> QuantizedModel:
    """The model that the two artifacts describe.

    Raises:
        VqError: the quant params were not made from these weights.
    """
    require_parent(qparams.artifact, weights.artifact)
    manifest = weights.artifact.manifest
    return QuantizedModel(
        model=manifest.model,
        family_name=weights.family_name,
        family=weights.family,
        scheme=qparams.scheme,
        components={name: _RoundedWeights(name, part, qparams) for name, part in weights.components.items()},
        settings={"smooth": manifest.settings, "quantize": qparams.artifact.manifest.settings},
        parents=_parents(weights, qparams),
        tools={artifact.manifest.kind: artifact.manifest.tool for artifact in (weights.artifact, qparams.artifact)},
    )


def _parents(weights: SmoothedWeights, qparams: QuantParams) -> dict[str, str]:
    """Digest of every artifact that went in; where both stages used different statistics, each is named."""
    rounded, smoothed = qparams.artifact.manifest, weights.artifact.manifest
    parents = {smoothed.kind: weights.artifact.digest, rounded.kind: qparams.artifact.digest, **smoothed.parents}
    for kind, digest in rounded.parents.items():
        if parents.setdefault(kind, digest) != digest:
            parents[f"{kind} of {rounded.kind}"] = digest
    return parents


def from_source(source: Source, scheme: QuantScheme, rounding: Rounding, *, device: str = "cpu") -> QuantizedModel:
    """Conversion only: `source` rounded to nearest as it is read, without calibration; its gains, if any, are kept."""
    return QuantizedModel(
        model=source.name,
        family_name=source.family_name,
        family=source.family,
        scheme=scheme.name,
        components={
            name: _RoundedSource(component, scheme, rounding, device) for name, component in source.components.items()
        },
        settings={
            **({"smooth": {"method": SMOOTHED_BEFORE}} if source.has_gains else {}),
            "quantize": {"scheme": scheme.name, "method": METHOD, "rounding": rounding.value},
        },
        parents={},
    )
