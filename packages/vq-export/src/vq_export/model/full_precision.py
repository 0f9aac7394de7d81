"""A model in full precision without gains, whatever it comes from: what can be written for programs that know neither.

Codes are multiplied by their scale, and the columns of linears that read a modulated norm by its gain: codes·scale·g.
In fp32 that is exact, because codes have at most 7 significant bits and scales and gains, bfloat16 values, have 8 each.
The other gains of a smoothed model are in its norms and linears already, as in any plain model, and stay there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.checkpoint import KIND as CHECKPOINT_KIND
from vq_core.artifacts.checkpoint import CheckpointComponent, ConvertedCheckpoint, open_checkpoint
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.model.lora_request import parse_lora
from vq_core.model.source import Source, open_source
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, dequantize
from vq_core.topology import Topology, shard_of
from vq_export.model.quantized_model import QuantizedModel, from_artifacts
from vq_export.model.quantized_source import open_quantized_source
from vq_export.options import DiffusersOptions


@dataclass(frozen=True)
class FullPrecisionComponent:
    """One transformer in full precision.

    Attributes:
        topology: its tensors, linears and groups.
        config: its config.json, diffusers' keys.
        fingerprint: identity of the weights that it goes back to.
        lora: what a manifest says of the LoRAs that are merged.
        plain: reads tensors that are not quantized.
        linear: reads codes and scale of a linear; None where none is quantized.
        gain: reads the gain of a modulated norm; None where there is none.
    """

    topology: Topology
    config: dict[str, JsonValue]
    fingerprint: str
    lora: Sequence[Mapping[str, JsonValue]]
    plain: Callable[[Iterable[str]], dict[str, Tensor]]
    linear: Callable[[str], Quantized] | None
    gain: Callable[[str], Tensor] | None

    def tensors(self, names: Sequence[str], dtype: torch.dtype) -> dict[str, Tensor]:
        """The tensors `names`: those that have to be computed as `dtype`, the others as they are.

        Raises:
            VqError: a file is damaged, or a tensor has NaN or infinite values.
        """
        linears = {f"{linear.name}.weight": linear.name for linear in self.topology.linears}
        quantized = set() if self.linear is None else linears.keys() & set(names)
        tensors = self.plain(name for name in names if name not in quantized)
        for name in names:
            computed = None
            if self.linear is not None and name in quantized:
                computed = dequantize(self.linear(linears[name]))
            gain = self.topology.gain_of(linears[name]) if name in linears else None
            if self.gain is not None and gain is not None:
                computed = (tensors[name].float() if computed is None else computed) * self.gain(gain)
            if computed is not None:
                tensors[name] = computed.to(dtype)
            require_finite(tensors[name], name, "the model that is read")
        return {name: tensors[name] for name in names}


@dataclass(frozen=True)
class FullPrecisionModel:
    """A model in full precision with its provenance.

    `form` is `plain`, `folded` (smoothed, not quantized) or `dequantized`.
    """

    model: str
    family_name: str
    form: str
    components: Mapping[str, FullPrecisionComponent]
    settings: Mapping[str, JsonValue]
    parents: Mapping[str, str]


def open_full_precision(options: DiffusersOptions) -> FullPrecisionModel:
    """Open what `options` name.

    Raises:
        VqError: none or several are named, or what is named cannot be read.
    """
    named = [item for item in (options.model, options.checkpoint, options.weights) if item is not None]
    if len(named) != 1 or (options.qparams and not options.weights):
        raise VqError("Give one of --model, --checkpoint and --weights; --qparams goes with --weights.")
    if options.lora and options.model is None:
        raise VqError("`--lora` goes with --model: what is quantized or smoothed has its LoRAs merged already.")
    if options.checkpoint is not None:
        return _of_checkpoint(open_checkpoint(options.checkpoint))
    if options.weights is not None:
        weights = open_weights(options.weights)
        if options.qparams is None:
            return _of_weights(weights)
        return _of_quantized(from_artifacts(weights, open_qparams(options.qparams)))
    assert options.model is not None
    if quantized := open_quantized_source(options.model, loras=options.lora or (), allow_pth=options.allow_pth):
        return _of_quantized(quantized)
    loras = [parse_lora(lora) for lora in options.lora or ()]
    return _of_source(open_source(options.model, loras, allow_pth=options.allow_pth))


def _of_source(source: Source) -> FullPrecisionModel:
    components = {
        name: FullPrecisionComponent(
            part.topology,
            part.config,
            part.fingerprint,
            part.lora,
            part.load,
            None,
            _one(part.load) if part.has_gains else None,
        )
        for name, part in source.components.items()
    }
    return FullPrecisionModel(source.name, source.family_name, "plain", components, {}, {})


def _of_weights(weights: SmoothedWeights) -> FullPrecisionModel:
    components = {
        name: FullPrecisionComponent(
            part.topology, part.config, part.fingerprint, part.lora, part.load, None, _one(part.load)
        )
        for name, part in weights.components.items()
    }
    manifest = weights.artifact.manifest
    parents = {manifest.kind: weights.artifact.digest, **manifest.parents}
    return FullPrecisionModel(
        manifest.model, weights.family_name, "folded", components, {"smooth": manifest.settings}, parents
    )


def _of_quantized(model: QuantizedModel) -> FullPrecisionModel:
    components = {
        name: FullPrecisionComponent(
            part.topology,
            part.config,
            part.fingerprint,
            part.lora,
            part.plain,
            part.linear,
            part.gain if part.has_gains else None,
        )
        for name, part in model.components.items()
    }
    return FullPrecisionModel(model.model, model.family_name, "dequantized", components, model.settings, model.parents)


def _of_checkpoint(checkpoint: ConvertedCheckpoint) -> FullPrecisionModel:
    manifest = checkpoint.artifact.manifest
    components = {
        name: FullPrecisionComponent(
            part.topology,
            part.config,
            manifest.components[name].fingerprint,
            manifest.components[name].merged,
            _plain_of(part),
            part.linear,
            _gain_of(part) if checkpoint.has_gains else None,
        )
        for name, part in checkpoint.components.items()
    }
    parents = {CHECKPOINT_KIND: checkpoint.artifact.digest, **manifest.parents}
    return FullPrecisionModel(
        manifest.model, checkpoint.family_name, "dequantized", components, manifest.settings, parents
    )


def _one(load: Callable[[list[str]], dict[str, Tensor]]) -> Callable[[str], Tensor]:
    return lambda name: load([name])[name]


def _plain_of(component: CheckpointComponent) -> Callable[[Iterable[str]], dict[str, Tensor]]:
    def read(names: Iterable[str]) -> dict[str, Tensor]:
        wanted = set(names)
        loaded: dict[str, Tensor] = {}
        for shard in {shard_of(name) for name in wanted}:
            loaded |= component.plain(shard=shard)
        return {name: tensor for name, tensor in loaded.items() if name in wanted}

    return read


def _gain_of(component: CheckpointComponent) -> Callable[[str], Tensor]:
    def read(name: str) -> Tensor:
        gain = component.gain(name)
        assert gain is not None
        return gain

    return read
