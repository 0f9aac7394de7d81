"""Write the file that ComfyUI loads as a diffusion model: INT8 per channel, or a plain model in FP8 per tensor.

Native names without a prefix, one file per transformer. Every quantized linear names its format twice, in the header
(`_quantization_metadata`) and in a tensor of JSON bytes (`STEM.comfy_quant`); ComfyUI reads either, other programs one
of the two. `STEM.weight_scale` is what its linear multiplies codes by; see docs/formats/comfyui-checkpoint.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vq_core.artifacts.comfyui_checkpoint import FORMAT, KIND, layer_of, marker_of
from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorSpec
from vq_core.model.comfyui_codes import HEADER_MARKS
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.numerics.rotation import NONE
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import NumberFormat, Rounding
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.store.writer import Check, create_artifact
from vq_export.model.quantized_model import QuantizedModel, QuantizedTransformer, stored_plain
from vq_export.provenance import file_metadata, linears_of, provenance_settings
from vq_export.verify.verify import verify_comfyui
from vq_export.writing.overlap import overlap
from vq_export.writing.tensor_stream import stream_tensors

METADATA_VERSION = "1.0"
VERIFIER = verify_comfyui


def export(model: QuantizedModel, output: Location, *, resume: bool = False, check: Check | None = None) -> None:
    """Write `model` to the folder `output`. Host memory: two linears, and what is not quantized of two blocks.

    A resumed run keeps finished files and writes the others from their beginning.

    Raises:
        VqError: ComfyUI has no place for the gains, or for one FP8 scale per channel.
    """
    _refuse_what_has_no_place(model)
    header = model.header(KIND, FORMAT, model.folders, provenance_settings(model))
    with (
        create_artifact(output, header, resume=resume, check=check) as writer,
        progress("export", model.shards, "shard") as advance,
    ):
        for name in model.components:
            file = _file(model, name)
            if not writer.has(file):
                _write(writer.draft(file), model, name, advance)
                writer.adopt(file)
        writer.note_measured({name: linears_of(model, name, _known(model, name)) for name in model.components})


def notes(model: QuantizedModel) -> dict[str, str]:
    """How many linears read a rotated input."""
    linears = [(it, linear.name) for it in model.components.values() for linear in it.topology.linears]
    rotated = sum(component.rotation(linear) != NONE for component, linear in linears)
    return {"inputs": f"rotated for {rotated} of {len(linears)} linears"} if rotated else {}


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


def _known(model: QuantizedModel, name: str) -> list[str]:
    """The linears of which is known beforehand how they are rounded; a model that is converted is rounded meanwhile."""
    linears = model.components[name].topology.linears
    return [linear.name for linear in linears] if _rounding(model) is None else []


def _write(path: Path, model: QuantizedModel, name: str, advance: Advance) -> None:
    family, component = model.family, model.components[name]
    shards, weights = component.topology.shards(), component.topology.weights
    stems = {linear: family.to_native(name).removesuffix(".weight") for name, linear in weights.items()}
    layers = {stem: layer_of(model.scheme.weight, component.rotation(linear)) for linear, stem in stems.items()}
    markers = {stem: marker_of(layer) for stem, layer in layers.items()}
    metadata = {
        HEADER_MARKS: json.dumps({"format_version": METADATA_VERSION, "layers": layers}),
        **file_metadata(model, KIND, name, Path(_file(model, name)).stem, _known(model, name)),
    }
    with stream_tensors(path, _specs(model, component, markers), metadata) as stream:

        def write_shard(shard: str) -> None:
            for tensor, value in stored_plain(component, shard).items():
                stream.append(family.to_native(tensor), value)
            for tensor in shards[shard]:
                if tensor in weights:
                    stem, quantized = stems[weights[tensor]], _quantized(model, component, weights[tensor])
                    stream.append(f"{stem}.weight", quantized.codes)
                    stream.append(f"{stem}.weight_scale", quantized.scale)
                    stream.append(f"{stem}.comfy_quant", markers[stem])

        overlap(write_shard, shards, lambda _: advance())


def _specs(
    model: QuantizedModel, component: QuantizedTransformer, markers: Mapping[str, Tensor]
) -> dict[str, TensorSpec]:
    """Every tensor of the file. Plain tensors have to be read for it: nothing else tells their dtype."""
    family, topology = model.family, component.topology
    specs: dict[str, TensorSpec] = {}
    for shard in topology.plain_shards():
        for name, tensor in stored_plain(component, shard).items():
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
