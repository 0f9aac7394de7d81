"""What a target writes: a quantized model, read block by block, whether from artifacts or straight from a model."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedComponent, SmoothedWeights
from vq_core.families import Family
from vq_core.files.buffers import Buffers
from vq_core.model.source import Source, SourceTransformer
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, quantize_weight_into, quantized_snr_db
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import QuantScheme, Rounding
from vq_core.store.reader import require_parent
from vq_core.topology import Topology, shard_of
from vq_export.writing.overlap import WORKERS

METHOD = "rtn"
"""How a model is rounded that is converted as it is."""
SNR_EVERY = 32
"""Of a converted weight the SNR of one row in 32 stands for all: on all of them it takes as long as rounding does."""


class QuantizedComponent(Protocol):
    """One quantized transformer."""

    @property
    def topology(self) -> Topology:
        """Its tensors, linears and groups."""

    @property
    def config(self) -> dict[str, JsonValue]:
        """Its config.json, diffusers' keys."""

    @property
    def fingerprint(self) -> str:
        """Identity of the full-precision weights it was made from."""

    @property
    def lora(self) -> Sequence[Mapping[str, JsonValue]]:
        """What a manifest says of the LoRAs that were merged into those."""

    @property
    def has_gains(self) -> bool:
        """Is any gain of a modulated norm other than one?"""

    def plain(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Tensors that are not quantized, by diffusers' names; biases as the rounder corrected them."""

    def linear(self, name: str) -> Quantized:
        """Codes and scale of a quantized linear."""

    def gain(self, name: str) -> Tensor:
        """The gain of a modulated norm, fp32 `[dim]`."""

    def unrounded(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """What was rounded: tensors as the checkpoint holds them, in full precision, by diffusers' names."""

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        """How `linear` was rounded and with what error, as quant-params say it; known once it has been read."""


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized model with its provenance; `tools` says by artifact what wrote it."""

    model: str
    family_name: str
    family: Family
    scheme: QuantScheme
    components: Mapping[str, QuantizedComponent]
    settings: Mapping[str, JsonValue]
    parents: Mapping[str, str]
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_gains(self) -> bool:
        """Has any component gains?"""
        return any(component.has_gains for component in self.components.values())


class _FromArtifacts:
    def __init__(self, name: str, weights: SmoothedComponent, qparams: QuantParams) -> None:
        self._name = name
        self._weights = weights
        self._qparams = qparams
        self._corrected = frozenset(qparams.corrected_biases(name).values())
        self.topology = weights.topology
        self.config = weights.config
        self.fingerprint = weights.fingerprint
        self.lora = weights.lora

    @cached_property
    def has_gains(self) -> bool:
        # One by one, because the first gain usually decides and each file's digest is checked before it is read.
        return any(bool((self.gain(name) != 1).any()) for name in self.topology.gains)

    def plain(self, names: Iterable[str]) -> dict[str, Tensor]:
        return self.unrounded(names)

    def linear(self, name: str) -> Quantized:
        return self._qparams.linear(self._name, name)

    def gain(self, name: str) -> Tensor:
        return self._weights.load([name])[name]

    def unrounded(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        tensors = self._weights.load(names, device)
        corrected = [name for name in tensors if name in self._corrected]
        return tensors | self._qparams.artifact.tensors(self._name, corrected, device)

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        decided: dict[str, JsonValue] = self._decisions[linear]
        return decided

    @cached_property
    def _decisions(self) -> dict[str, Any]:
        return self._qparams.decisions(self._name)


class _FromCheckpoint:
    def __init__(self, checkpoint: SourceTransformer, scheme: QuantScheme, rounding: Rounding, device: str) -> None:
        self._checkpoint = checkpoint
        self._scheme = scheme
        self._rounding = rounding
        self._device = device
        self.topology = checkpoint.topology
        self.config = checkpoint.config
        self.fingerprint = checkpoint.fingerprint
        self.lora = checkpoint.lora
        self._decided: dict[str, dict[str, JsonValue]] = {}
        in_a_shard = Counter(shard_of(linear.name) for linear in self.topology.linears)
        self._memory = Buffers(kept=WORKERS * max(in_a_shard.values()))

    @cached_property
    def has_gains(self) -> bool:
        return self._checkpoint.has_gains and any(bool((self.gain(name) != 1).any()) for name in self.topology.gains)

    def plain(self, names: Iterable[str]) -> dict[str, Tensor]:
        tensors = self._checkpoint.load(names)
        for name, tensor in tensors.items():
            require_finite(tensor, name, self._checkpoint.folder)
        return tensors

    def linear(self, name: str) -> Quantized:
        weight = self._checkpoint.load([f"{name}.weight"], self._device)[f"{name}.weight"]
        written = self._memory.take(weight.numel()).view(CODE_DTYPE[self._scheme.weight]).reshape(weight.shape)
        codes = written if weight.device == written.device else torch.empty_like(written, device=weight.device)
        scale = quantize_weight_into(codes, weight, self._scheme.weight, self._rounding)
        if not torch.isfinite(scale).all():
            require_finite(weight.float(), f"{name}.weight", self._checkpoint.folder)
        snr = quantized_snr_db(weight[::SNR_EVERY], Quantized(codes[::SNR_EVERY], scale[::SNR_EVERY]))
        # JSON has no infinity: null says that the codes hold the weight exactly.
        self._decided[name] = {"method": METHOD, "weight_snr_db": round(snr, 3) if math.isfinite(snr) else None}
        return Quantized(written.copy_(codes), scale.cpu())

    def gain(self, name: str) -> Tensor:
        if not self._checkpoint.has_gains:
            return torch.ones(self.topology.gains[name])
        return self._checkpoint.load([name])[name]

    def unrounded(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        return self._checkpoint.load(names, device)

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
        components={name: _FromArtifacts(name, part, qparams) for name, part in weights.components.items()},
        settings={"smooth": manifest.settings, "quantize": qparams.artifact.manifest.settings},
        parents=_parents(weights, qparams),
        tools={artifact.manifest.kind: artifact.manifest.tool for artifact in (weights.artifact, qparams.artifact)},
    )


def _parents(weights: SmoothedWeights, qparams: QuantParams) -> dict[str, str]:
    """Digest of every artifact that went in; statistics that only the rounder used have a line of their own."""
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
        scheme=scheme,
        components={
            name: _FromCheckpoint(component, scheme, rounding, device) for name, component in source.components.items()
        },
        settings={"quantize": {"scheme": scheme.name, "method": METHOD, "rounding": rounding.value}},
        parents={},
    )
