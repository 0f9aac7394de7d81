"""One file per transformer in ComfyUI's layout, for ComfyUI itself and for what else reads it.

Native names without a prefix. Every quantized linear names its format twice, in the header (`_quantization_metadata`)
and in a tensor of JSON bytes (`STEM.comfy_quant`); ComfyUI reads either, other programs one of the two.
`STEM.weight_scale` is what its linear multiplies codes by; see docs/formats/comfyui-checkpoint.md.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import Role
from vq_core.artifacts.comfyui_checkpoint import FORMATS, GAIN, MEAN, NATIVE_KIND, grouped_tensors, layer_of, marker_of
from vq_core.files.tensor_file import TensorSpec
from vq_core.model.comfyui_codes import HEADER_MARKS, MARK
from vq_core.numerics.finite import require_finite
from vq_core.numerics.grouped import CODEBOOK, pack
from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.numerics.rotation import NONE
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import NumberFormat, QuantScheme, Rounding
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.store.writer import Check, create_artifact
from vq_core.topology import Linear
from vq_export.model.quantized_model import QuantizedModel, QuantizedTransformer, stored_plain
from vq_export.provenance import file_metadata, linears_of, provenance_settings
from vq_export.writing.overlap import overlap
from vq_export.writing.tensor_stream import stream_tensors

METADATA_VERSION = "1.0"
GROUPED_DTYPES = {
    Role.CODES: torch.int8,
    Role.GROUP_SCALE: torch.float8_e4m3fn,
    Role.SCALE: torch.float32,
    Role.CODEBOOK: torch.float32,
}


def write_files(
    model: QuantizedModel, kind: str, output: Location, *, resume: bool = False, check: Check | None = None
) -> None:
    """Write `model` to the folder `output`, an artifact of `kind`.

    A resumed run keeps finished files and writes the others from their beginning. Host memory: two linears, and what is
    not quantized of two blocks.

    Raises:
        VqError: see `create_artifact`.
    """
    header = model.header(kind, FORMATS[kind], model.folders, provenance_settings(model))
    with (
        create_artifact(output, header, resume=resume, check=check) as writer,
        progress("export", model.shards, "shard") as advance,
    ):
        for name in model.components:
            file = file_of(model, name)
            if not writer.has(file):
                _write(writer.draft(file), model, kind, name, advance)
                writer.adopt(file)
        writer.note_measured({name: linears_of(model, name, _known(model, name)) for name in model.components})


def file_of(model: QuantizedModel, component: str) -> str:
    """The path of the file of `component` in the folder."""
    folder = model.folders[component]
    kind = model.family.native_config(model.components[component].config)["model_type"]
    name = f"{model.family_name}_{kind}_{folder.removesuffix('model')}{model.scheme}.safetensors"
    return (Path(folder) / name).as_posix()


def linears_told(model: QuantizedModel) -> dict[str, str]:
    """The lines of a summary: how many linears have which scheme, read a rotated input, and stay in full precision.

    None where all have one scheme, or for no linear.
    """
    linears = [(it, linear.name) for it in model.components.values() for linear in it.topology.linears]
    schemes = Counter(component.scheme_of(linear).name for component, linear in linears).most_common()
    rotated = sum(component.rotation(linear) != NONE for component, linear in linears)
    kept = sum(len(component.topology.kept) for component in model.components.values())
    return {
        **({"schemes": ", ".join(f"{name} for {count}" for name, count in schemes)} if len(schemes) > 1 else {}),
        **({"inputs": f"rotated for {rotated} of {len(linears)} linears"} if rotated else {}),
        **({"full precision": f"{kept} of {kept + len(linears)} linears"} if kept else {}),
    }


def rounding_of(model: QuantizedModel) -> Rounding | None:
    """How to round a model that is converted; None for one that is quantized already."""
    quantize = model.settings["quantize"]
    if model.parents or not isinstance(quantize, dict) or "rounding" not in quantize:
        return None
    return Rounding(str(quantize["rounding"]))


@dataclass(frozen=True)
class _Linear:
    """A quantized linear: its name in the file, its scheme and marker, and whether it has a scale per channel.

    `gain` and `mean` are those of its input, if it has any.
    """

    stem: str
    scheme: QuantScheme
    layer: Mapping[str, object]
    marker: Tensor
    gain: Tensor | None
    mean: Tensor | None
    per_channel: bool


def _linears(model: QuantizedModel, kind: str, component: QuantizedTransformer) -> dict[str, _Linear]:
    """The linears by diffusers' name. Only a native checkpoint has gains, and FP8 scales per channel."""
    native, found = kind == NATIVE_KIND, {}
    for linear in component.topology.linears:
        name = component.topology.gain_of(linear.name) if native and model.has_gains else None
        gain = None if name is None else component.gain(name)
        scheme = component.scheme_of(linear.name)
        fp8_channel = native and scheme.weight is NumberFormat.FP8_E4M3
        group = component.rotation(linear.name)
        mean = component.input_mean(linear.name)
        layer = layer_of(scheme, group, gain=gain is not None, mean=mean is not None, per_channel=fp8_channel)
        stem = model.family.to_native(f"{linear.name}.weight").removesuffix(".weight")
        found[linear.name] = _Linear(
            stem, scheme, layer, marker_of(layer), gain, mean, fp8_channel or scheme.weight is NumberFormat.INT8
        )
    return found


def _known(model: QuantizedModel, name: str) -> list[str]:
    """The linears of which is known beforehand how they are rounded; a model that is converted is rounded meanwhile."""
    linears = model.components[name].topology.block_linears
    return [linear.name for linear in linears] if rounding_of(model) is None else []


def _write(path: Path, model: QuantizedModel, kind: str, name: str, advance: Advance) -> None:
    family, component = model.family, model.components[name]
    shards, weights = component.topology.shards(), component.topology.weights
    linears = _linears(model, kind, component)
    layers = {linear.stem: linear.layer for linear in linears.values()}
    metadata = {
        HEADER_MARKS: json.dumps({"format_version": METADATA_VERSION, "layers": layers}),
        **file_metadata(model, kind, name, Path(file_of(model, name)).stem, _known(model, name)),
    }
    with stream_tensors(path, _specs(model, component, linears), metadata) as stream:

        def write_shard(shard: str) -> None:
            for tensor, value in stored_plain(component, shard).items():
                stream.append(family.to_native(tensor), value)
            for tensor in shards[shard]:
                if tensor in weights:
                    linear = linears[weights[tensor]]
                    quantized = _quantized(model, component, weights[tensor], per_channel=linear.per_channel)
                    for part, value in _stored(quantized).items():
                        stream.append(f"{linear.stem}.weight{part}", value)
                    stream.append(f"{linear.stem}{MARK}", linear.marker)
                    if linear.gain is not None:
                        stream.append(f"{linear.stem}{GAIN}", linear.gain)
                    if linear.mean is not None:
                        stream.append(f"{linear.stem}{MEAN}", linear.mean)

        overlap(write_shard, shards, lambda _: advance())


def _specs(
    model: QuantizedModel, component: QuantizedTransformer, linears: Mapping[str, _Linear]
) -> dict[str, TensorSpec]:
    """Every tensor of the file. Plain tensors have to be read for it: nothing else tells their dtype."""
    family, topology = model.family, component.topology
    specs: dict[str, TensorSpec] = {}
    for shard in topology.plain_shards():
        for name, tensor in stored_plain(component, shard).items():
            specs[family.to_native(name)] = TensorSpec(tensor.dtype, tuple(tensor.shape))
    for it in topology.linears:
        linear = linears[it.name]
        for part, spec in _weight_specs(linear.scheme, it, per_channel=linear.per_channel).items():
            specs[f"{linear.stem}.weight{part}"] = spec
        specs[f"{linear.stem}{MARK}"] = TensorSpec(torch.uint8, tuple(linear.marker.shape))
        if linear.gain is not None:
            specs[f"{linear.stem}{GAIN}"] = TensorSpec(torch.float32, (it.in_features,))
        if linear.mean is not None:
            specs[f"{linear.stem}{MEAN}"] = TensorSpec(torch.float32, (it.in_features,))
    return specs


def _weight_specs(scheme: QuantScheme, linear: Linear, *, per_channel: bool) -> dict[str, TensorSpec]:
    """The tensors of a quantized weight, by what follows `STEM.weight` in their name, in the order of `_stored`."""
    if scheme.grouped:
        tensors = grouped_tensors(linear, scheme.bits)
        return {part: TensorSpec(GROUPED_DTYPES[role], shape) for part, (role, shape) in tensors.items()}
    scale = (linear.out_features, 1) if per_channel else ()
    codes = TensorSpec(CODE_DTYPE[scheme.weight], (linear.out_features, linear.in_features))
    return {"": codes, "_scale": TensorSpec(torch.float32, scale)}


def _stored(weight: Quantized) -> dict[str, Tensor]:
    if weight.groups is None:
        return {"": weight.codes, "_scale": weight.scale}
    packed = pack(weight)
    tensors = {"": packed.codes, "_s_rel": packed.group_scale, "_s_channel": packed.scale.flatten()}
    return tensors | ({"_codebook": torch.tensor(CODEBOOK)} if packed.bits == 4 else {})


def _quantized(model: QuantizedModel, component: QuantizedTransformer, linear: str, *, per_channel: bool) -> Quantized:
    """Codes and scale; a converted model is rounded here where it gets one scale per tensor."""
    rounding = rounding_of(model)
    if per_channel or rounding is None:
        return component.linear(linear)
    weight = component.unrounded.linear(linear)
    require_finite(weight, f"{linear}.weight", model.model)
    flat = quantize_weight(weight.reshape(1, -1), component.scheme_of(linear).weight, rounding)
    return Quantized(flat.codes.reshape(weight.shape), flat.scale.reshape(()))
