"""A model of any origin in full precision and without gains, for programs that know neither codes nor gains.

Codes are multiplied by their scale, and the columns of linears that read a modulated norm by its gain: codes·scale·g.
In fp32 that is exact, because codes have at most 7 significant bits and scales and gains, bfloat16 values, have 8 each.
All other gains of a smoothed model are folded into its norms and linears, and stay there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.artifacts.converted import open_converted
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.model.lora_request import parse_lora
from vq_core.model.source import open_source
from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, dequantize
from vq_export.model.quantized_model import OpenedModel, from_artifacts
from vq_export.model.quantized_source import open_quantized_source
from vq_export.options import DiffusersOptions


@dataclass(frozen=True)
class FullPrecisionModel(OpenedModel):
    """A model that `full_precision` reads; `form` is `plain`, `folded` (smoothed, not quantized) or `dequantized`."""

    form: str


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
        return _of_artifact(open_converted(options.checkpoint), "dequantized")
    if options.weights is not None:
        weights = open_weights(options.weights)
        if options.qparams is None:
            return _of_artifact(weights, "folded")
        return _of_quantized(from_artifacts(weights, open_qparams(options.qparams)))
    assert options.model is not None
    if quantized := open_quantized_source(options.model, loras=options.lora or (), allow_pth=options.allow_pth):
        return _of_quantized(quantized)
    loras = [parse_lora(lora) for lora in options.lora or ()]
    source = open_source(options.model, loras, allow_pth=options.allow_pth)
    form = "dequantized" if source.rounded else "plain"
    return FullPrecisionModel(source.name, source.family_name, source.components, {}, {}, form)


def full_precision(
    component: TransformerReader[Tensor | Quantized], names: Sequence[str], dtype: torch.dtype
) -> dict[str, Tensor]:
    """The tensors `names` without codes and gains: those that have to be computed as `dtype`, the others as they are.

    Raises:
        VqError: a file is damaged, or a tensor has NaN or infinite values.
    """
    weights = component.topology.weights
    tensors = component.plain(name for name in names if name not in weights)
    for name in names:
        if name in weights:
            tensors[name] = _weight(component, weights[name], dtype)
        require_finite(tensors[name], name, "the model that is read")
    return {name: tensors[name] for name in names}


def _weight(component: TransformerReader[Tensor | Quantized], linear: str, dtype: torch.dtype) -> Tensor:
    weight, name = component.linear(linear), component.topology.gain_of(linear)
    gain = None if name is None else component.gain(name)
    if isinstance(weight, Quantized):
        weight = dequantize(weight)
    elif gain is None:
        return weight
    return (weight if gain is None else weight.float() * gain).to(dtype)


def _of_artifact(opened: ConvertedCheckpoint | SmoothedWeights, form: str) -> FullPrecisionModel:
    manifest = opened.artifact.manifest
    parents = {manifest.kind: opened.artifact.digest, **manifest.parents}
    settings = {"smooth": manifest.settings} if isinstance(opened, SmoothedWeights) else manifest.settings
    return FullPrecisionModel(manifest.model, opened.family_name, opened.components, settings, parents, form)


def _of_quantized(model: OpenedModel) -> FullPrecisionModel:
    return FullPrecisionModel(
        model.model, model.family_name, model.components, model.settings, model.parents, "dequantized"
    )
