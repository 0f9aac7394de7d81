"""Write the file that ComfyUI loads as a diffusion model: INT8 per channel, or a plain model in FP8 per tensor.

Native names without a prefix, one file per transformer. Every quantized linear names its format twice, in the header
(`_quantization_metadata`) and in a tensor of JSON bytes (`STEM.comfy_quant`); ComfyUI reads either, other programs one
of the two. `STEM.weight_scale` is what its linear multiplies codes by; see docs/formats/comfyui-checkpoint.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorSpec
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.numerics.rotation import NONE
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import NumberFormat, Rounding
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.store.writer import Check, create_artifact
from vq_export.model.quantized_model import TOOL, QuantizedModel, QuantizedTransformer
from vq_export.writing.overlap import overlap
from vq_export.writing.tensor_stream import stream_tensors

KIND = "comfyui-checkpoint"
FORMAT = 1
METADATA_VERSION = "1.0"
VERIFIER = None

LAYERS: Mapping[NumberFormat, Mapping[str, JsonValue]] = {
    # One scale per channel; the kernel quantizes activations per token.
    NumberFormat.INT8: {"format": "int8_tensorwise"},
    # ComfyUI's FP8 product would cast activations without any scale: with this key it multiplies in full precision, and
    # only the weight is quantized.
    NumberFormat.FP8_E4M3: {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
}
"""What ComfyUI is told of a linear, by format."""


def layer_of(model: QuantizedModel, component: QuantizedTransformer, linear: str) -> dict[str, JsonValue]:
    """What ComfyUI is told of `linear`; rotated inputs are its ConvRot."""
    layer, group = LAYERS[model.scheme.weight], component.rotation(linear)
    return {**layer, **({} if group == NONE else {"convrot": True, "convrot_groupsize": group})}


def export(model: QuantizedModel, output: Location, *, resume: bool = False, check: Check | None = None) -> None:
    """Write `model` to the folder `output`. Host memory: two linears, and what is not quantized of two blocks.

    A resumed run keeps finished files and writes the others from their beginning.

    Raises:
        VqError: ComfyUI has no place for the gains, or for one FP8 scale per channel.
    """
    _refuse_what_has_no_place(model)
    settings = {"scheme": model.scheme.name, "layers": dict(LAYERS[model.scheme.weight]), **model.settings}
    header = model.header(KIND, FORMAT, model.folders, settings)
    with (
        create_artifact(output, header, resume=resume, check=check) as writer,
        progress("export", model.shards, "shard") as advance,
    ):
        for name, component in model.components.items():
            file = _file(model, name)
            if not writer.has(file):
                _write(writer.draft(file), model, component, advance)
                writer.adopt(file)


def notes(model: QuantizedModel) -> dict[str, str]:
    """Nothing is written besides tensors."""
    return {}


def next_steps(model: QuantizedModel, output: Location) -> str:
    """Where ComfyUI looks for the files."""
    files = ", ".join(str(output / _file(model, name)) for name in model.components)
    return f"copy {files} to ComfyUI/models/diffusion_models and choose it in the node Load Diffusion Model"


def _file(model: QuantizedModel, component: str) -> str:
    folder = model.folders[component]
    kind = model.family.native_config(model.components[component].config)["model_type"]
    name = f"{model.family_name}_{kind}_{folder.removesuffix('model')}{model.scheme.name}.safetensors"
    return (Path(folder) / name).as_posix()


def _refuse_what_has_no_place(model: QuantizedModel) -> None:
    if model.has_gains:
        raise VqError(
            "ComfyUI has no gains of modulated norms, and these weights have some: smooth the model with "
            "`vq-algos smooth --target comfyui`, or export for lightx2v."
        )
    if model.scheme.weight is NumberFormat.FP8_E4M3 and _rounding(model) is None:
        raise VqError(
            "ComfyUI reads one FP8 scale per tensor, and these codes have one per channel: quantize to int8, or "
            "convert the model itself with --model and --scheme fp8."
        )


def _write(path: Path, model: QuantizedModel, component: QuantizedTransformer, advance: Advance) -> None:
    family = model.family
    shards, plain, weights = component.topology.shards(), component.topology.plain_shards(), component.topology.weights
    stems = {linear: family.to_native(name).removesuffix(".weight") for name, linear in weights.items()}
    layers = {stem: layer_of(model, component, linear) for linear, stem in stems.items()}
    markers = {stem: _marker(layer) for stem, layer in layers.items()}
    metadata = {
        "_quantization_metadata": json.dumps({"format_version": METADATA_VERSION, "layers": layers}),
        "tool": TOOL,
        "model": model.model,
        "settings": json.dumps({"scheme": model.scheme.name, **model.settings}),
    }
    with stream_tensors(path, _specs(model, component, markers), metadata) as stream:

        def write_shard(shard: str) -> None:
            for name, tensor in component.plain(plain[shard]).items():
                stream.append(family.to_native(name), tensor)
            for name in shards[shard]:
                if name in weights:
                    stem, quantized = stems[weights[name]], _quantized(model, component, weights[name])
                    stream.append(f"{stem}.weight", quantized.codes)
                    stream.append(f"{stem}.weight_scale", quantized.scale)
                    stream.append(f"{stem}.comfy_quant", markers[stem])

        overlap(write_shard, shards, lambda _: advance())


def _marker(layer: Mapping[str, JsonValue]) -> Tensor:
    """The JSON bytes of `layer`, as a tensor."""
    return torch.frombuffer(bytearray(json.dumps(layer).encode()), dtype=torch.uint8)


def _specs(
    model: QuantizedModel, component: QuantizedTransformer, markers: Mapping[str, Tensor]
) -> dict[str, TensorSpec]:
    """Every tensor of the file. Plain tensors have to be read for it: nothing else tells their dtype."""
    family, topology = model.family, component.topology
    specs: dict[str, TensorSpec] = {}
    for names in topology.plain_shards().values():
        for name, tensor in component.plain(names).items():
            specs[family.to_native(name)] = TensorSpec(tensor.dtype, tuple(tensor.shape))
    for linear in topology.linears:
        stem = family.to_native(f"{linear.name}.weight").removesuffix(".weight")
        per_channel = model.scheme.weight is NumberFormat.INT8
        specs[f"{stem}.weight"] = TensorSpec(CODE_DTYPE[model.scheme.weight], (linear.out_features, linear.in_features))
        specs[f"{stem}.weight_scale"] = TensorSpec(torch.float32, (linear.out_features, 1) if per_channel else ())
        specs[f"{stem}.comfy_quant"] = TensorSpec(torch.uint8, tuple(markers[stem].shape))
    return specs


def _quantized(model: QuantizedModel, component: QuantizedTransformer, linear: str) -> Quantized:
    """Codes and scale as ComfyUI takes them: INT8 per channel, FP8 per tensor."""
    rounding = _rounding(model)
    if model.scheme.weight is NumberFormat.INT8 or rounding is None:
        return component.linear(linear)
    weight = component.unrounded.linear(linear)
    require_finite(weight, f"{linear}.weight", model.model)
    flat = quantize_weight(weight.reshape(1, -1), model.scheme.weight, rounding)
    return Quantized(flat.codes.reshape(weight.shape), flat.scale.reshape(()))


def _rounding(model: QuantizedModel) -> Rounding | None:
    """How to round a model that is converted; None for one that is quantized already."""
    quantize = model.settings["quantize"]
    if model.parents or not isinstance(quantize, dict) or "rounding" not in quantize:
        return None
    return Rounding(str(quantize["rounding"]))
