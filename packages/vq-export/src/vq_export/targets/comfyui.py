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

from vq_core import __version__
from vq_core.artifacts.components import headers_in
from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorSpec
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import NumberFormat, Rounding
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.store.writer import Check, Header, create_artifact
from vq_export.model.quantized_model import QuantizedModel, QuantizedTransformer
from vq_export.writing.overlap import overlap
from vq_export.writing.tensor_stream import TensorStream, stream_tensors

KIND = "comfyui-checkpoint"
FORMAT = 1
METADATA_VERSION = "1.0"
VERIFIER = None

LAYERS: Mapping[NumberFormat, Mapping[str, JsonValue]] = {
    # Codes times a scale per channel; activations are quantized per token by the kernel.
    NumberFormat.INT8: {"format": "int8_tensorwise"},
    # Its matrix product would cast activations to FP8 as they are, without any scale, so it is told to multiply in
    # full precision: what is quantized is the weight alone.
    NumberFormat.FP8_E4M3: {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
}
"""What ComfyUI is told of a linear, by format."""


def export(model: QuantizedModel, output: Location, *, resume: bool = False, check: Check | None = None) -> None:
    """Write `model` to the folder `output`. Host memory: two linears, and what is not quantized of two blocks.

    What an interrupted run has of a file is not taken up again, finished files are.

    Raises:
        VqError: ComfyUI has no place for the gains, or for one FP8 scale per channel.
    """
    _refuse_what_has_no_place(model)
    folders = model.family.expert_folders(tuple(model.components))
    header = Header(
        kind=KIND,
        format=FORMAT,
        tool=f"vq-export {__version__}",
        family=model.family_name,
        model=model.model,
        components=headers_in(folders, model.components),
        settings={"scheme": model.scheme.name, "layers": dict(LAYERS[model.scheme.weight]), **model.settings},
        parents=dict(model.parents),
    )
    total = sum(len(component.topology.shards()) for component in model.components.values())
    with (
        create_artifact(output, header, resume=resume, check=check) as writer,
        progress("export", total, "shard") as advance,
    ):
        for name, component in model.components.items():
            file = f"{folders[name]}/{_file_name(model, name)}".lstrip("/")
            if not writer.has(file):
                _write(writer.path(file), model, component, advance)


def next_steps(model: QuantizedModel, output: Location) -> str:
    """Where ComfyUI looks for the files."""
    folders = model.family.expert_folders(tuple(model.components))
    files = ", ".join(str(output / folders[name] / _file_name(model, name)) for name in model.components)
    return f"copy {files} to ComfyUI/models/diffusion_models and choose it in the node Load Diffusion Model"


def _file_name(model: QuantizedModel, component: str) -> str:
    expert = model.family.expert_folders(tuple(model.components))[component].removesuffix("model")
    kind = model.family.native_config(model.components[component].config)["model_type"]
    return f"{model.family_name}_{kind}_{expert}{model.scheme.name}.safetensors"


def _refuse_what_has_no_place(model: QuantizedModel) -> None:
    if model.has_gains:
        raise VqError(
            "ComfyUI has no gains of modulated norms, and these weights were smoothed with some: smooth them with "
            "`vq-algos smooth --groups folded`, or export for lightx2v."
        )
    if model.scheme.weight is NumberFormat.FP8_E4M3 and _rounding(model) is None:
        raise VqError(
            "ComfyUI reads one FP8 scale per tensor, and what is quantized here has one per channel: quantize to int8, "
            "or convert the model itself with --model and --scheme fp8."
        )


def _write(path: Path, model: QuantizedModel, component: QuantizedTransformer, advance: Advance) -> None:
    family, layer = model.family, LAYERS[model.scheme.weight]
    shards, plain, weights = component.topology.shards(), component.topology.plain_shards(), component.topology.weights
    marker = torch.frombuffer(bytearray(json.dumps(layer).encode()), dtype=torch.uint8)
    layers = {family.to_native(name).removesuffix(".weight"): layer for name in weights}
    metadata = {
        "_quantization_metadata": json.dumps({"format_version": METADATA_VERSION, "layers": layers}),
        "tool": f"vq-export {__version__}",
        "model": model.model,
        "settings": json.dumps({"scheme": model.scheme.name, **model.settings}),
    }
    with stream_tensors(path, _specs(model, component, marker), metadata) as stream:

        def write_shard(shard: str) -> None:
            for name, tensor in component.plain(plain[shard]).items():
                stream.append(family.to_native(name), tensor)
            for name in shards[shard]:
                if name in weights:
                    _append_linear(stream, family.to_native(name), _quantized(model, component, weights[name]), marker)

        overlap(write_shard, shards, lambda _: advance())


def _append_linear(stream: TensorStream, native: str, quantized: Quantized, marker: Tensor) -> None:
    stream.append(native, quantized.codes)
    stream.append(f"{native}_scale", quantized.scale)
    stream.append(f"{native.removesuffix('.weight')}.comfy_quant", marker)


def _specs(model: QuantizedModel, component: QuantizedTransformer, marker: Tensor) -> dict[str, TensorSpec]:
    """Every tensor of the file. Those that are not quantized are read for it, because only so their dtype is known."""
    family, topology = model.family, component.topology
    specs: dict[str, TensorSpec] = {}
    for names in topology.plain_shards().values():
        for name, tensor in component.plain(names).items():
            specs[family.to_native(name)] = TensorSpec(tensor.dtype, tuple(tensor.shape))
    for linear in topology.linears:
        native = family.to_native(f"{linear.name}.weight")
        per_channel = model.scheme.weight is NumberFormat.INT8
        specs[native] = TensorSpec(CODE_DTYPE[model.scheme.weight], (linear.out_features, linear.in_features))
        specs[f"{native}_scale"] = TensorSpec(torch.float32, (linear.out_features, 1) if per_channel else ())
        specs[f"{native.removesuffix('.weight')}.comfy_quant"] = TensorSpec(torch.uint8, tuple(marker.shape))
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
    """How a model that is converted is to be rounded; None for one that is quantized already."""
    quantize = model.settings["quantize"]
    if model.parents or not isinstance(quantize, dict) or "rounding" not in quantize:
        return None
    return Rounding(str(quantize["rounding"]))
