"""Whether a file holds exactly what ComfyUI reads, and says the same of every linear in both places.

ComfyUI takes the sizes of a Wan model from the shapes of its tensors, what a linear's codes are from its marker or from
the header, and ignores whatever it does not know: a file with a tensor too few or too many loads, and computes noise.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vq_core.artifacts.checkpoint import CheckpointTensor, Role
from vq_core.artifacts.comfyui_checkpoint import GAIN, MEAN, ComfyuiCheckpoint, ComfyuiTransformer, read_marker
from vq_core.errors import VqError
from vq_core.files.json_file import parse_json
from vq_core.files.tensor_file import TensorInfo, read_header, read_metadata
from vq_core.model.comfyui_codes import HEADER_MARKS, MARK, rotation_of
from vq_core.numerics import rotation
from vq_core.numerics.scheme import FP8, NumberFormat

HEAD_CHANNELS = 128
FLOATS = ("BF16", "F16", "F32")
CODES = {NumberFormat.INT8: "I8", NumberFormat.FP8_E4M3: "F8_E4M3"}
FORMATS = {"int8": "int8_tensorwise", "fp8": "float8_e4m3fn", "w6a8": "asym_w4a8_int8", "w4a8": "asym_w4a8_int8"}
NATIVE_FORMATS = {"int8": "vq_int8_gain", "fp8": "vq_fp8_channel", "w6a8": "vq_w4a8_gain", "w4a8": "vq_w4a8_gain"}
MEAN_FORMATS = NATIVE_FORMATS | {"int8": "vq_int8_mean", "w6a8": "vq_w4a8_mean", "w4a8": "vq_w4a8_mean"}
"""By scheme. The native ones are of linears that ComfyUI by itself cannot compute: with a gain, or in FP8 with a scale
per channel; the last ones subtract a mean."""
ROTATED = {"convrot", "convrot_groupsize"}
GROUPED = {"group_size": 16}


def comfyui_problems(checkpoint: ComfyuiCheckpoint) -> Iterator[str]:
    """Files that are missing or too many; tensors likewise, or of the wrong dtype or shape; markers that are wrong."""
    files = {name: _file_of(checkpoint, name) for name in checkpoint.components}
    for file in sorted(checkpoint.artifact.manifest.files.keys() - set(files.values())):
        yield f"{checkpoint.artifact.path / file} is no part of a checkpoint."
    for name, component in checkpoint.components.items():
        found = read_header(checkpoint.artifact.path / files[name])
        yield from _tensor_problems(component, checkpoint, found)
        yield from _marker_problems(checkpoint, name, component, read_metadata(checkpoint.artifact.path / files[name]))


def comfyui_warnings(checkpoint: ComfyuiCheckpoint) -> Iterator[str]:
    """Models of which ComfyUI would take the heads for others."""
    for name, component in () if checkpoint.native else checkpoint.components.items():
        channels = component.config.get("attention_head_dim")
        if channels != HEAD_CHANNELS:
            yield (
                f"{name} has heads of {channels} channels and ComfyUI takes {HEAD_CHANNELS}: there it computes another "
                "function."
            )


def _file_of(checkpoint: ComfyuiCheckpoint, name: str) -> str:
    tensors = checkpoint.artifact.manifest.components[name].tensors
    files = {entry.file for entry in tensors.values()}
    if len(files) != 1:
        raise VqError(f"{name} of {checkpoint.artifact.path} lies in {len(files)} files: export it again.")
    return files.pop()


def _tensor_problems(
    component: ComfyuiTransformer, checkpoint: ComfyuiCheckpoint, found: Mapping[str, TensorInfo]
) -> Iterator[str]:
    markers = {f"{component.stem(linear.name)}{MARK}" for linear in component.topology.linears}
    for tensor in sorted((component.entries.keys() | markers) - found.keys()):
        yield f"`{tensor}` is missing."
    for tensor in sorted(found.keys() - component.entries.keys() - markers):
        yield f"`{tensor}` is nothing that the runtime reads."
    for tensor, entry in component.entries.items():
        if tensor in found:
            yield from _tensor_problem(tensor, entry, component, found[tensor], native=checkpoint.native)


def _tensor_problem(
    tensor: str, entry: CheckpointTensor, component: ComfyuiTransformer, info: TensorInfo, *, native: bool
) -> Iterator[str]:
    dtypes: tuple[str, ...] = FLOATS
    shape = entry.shape
    match entry.role:
        case Role.CODES:
            dtypes = (CODES[component.scheme_of(entry.origin).weight],)
        case Role.GAIN | Role.MEAN | Role.CODEBOOK:
            dtypes = ("F32",)
        case Role.GROUP_SCALE:
            dtypes = ("F8_E4M3",)
        case Role.SCALE:
            # ComfyUI's FP8 kernel takes one scale for all rows.
            per_channel = native or component.scheme_of(entry.origin).weight is NumberFormat.INT8
            dtypes, shape = ("F32",), entry.shape if per_channel else ()
    if info.dtype not in dtypes:
        yield f"`{tensor}` is {info.dtype} and should be {' or '.join(dtypes)}."
    if info.shape != shape:
        yield f"`{tensor}` is {list(info.shape)} and should be {list(shape)}."


def _marker_problems(
    checkpoint: ComfyuiCheckpoint, name: str, component: ComfyuiTransformer, metadata: Mapping[str, str]
) -> Iterator[str]:
    layers = _layers(metadata)
    stems = {component.stem(linear.name): linear for linear in component.topology.linears}
    for stem in sorted(layers.keys() - stems.keys()):
        yield f"The header names `{stem}`, which is not quantized."
    table = checkpoint.artifact.manifest.components[name].tensors
    for stem, linear in stems.items():
        mark = f"{stem}{MARK}"
        if mark not in table:
            continue
        layer = read_marker(checkpoint.artifact.tensors(name, [mark])[mark], mark)
        if layers.get(stem) != layer:
            yield f"The header says of `{stem}` {layers.get(stem)}, and its marker {layer}: ComfyUI takes either."
        scheme, whole = component.scheme_of(linear.name), layer.get("full_precision_matrix_mult")
        mean, gain = f"{stem}{MEAN}" in table, f"{stem}{GAIN}" in table or (checkpoint.native and scheme is FP8)
        if layer.get("format") != (MEAN_FORMATS if mean else NATIVE_FORMATS if gain else FORMATS)[scheme.name]:
            more = ", with a mean" if mean else ", with a gain" if gain else ""
            yield f"`{mark}` says {layer.get('format')!r} and the codes are {scheme.name}{more}."
        if scheme.grouped and {key: layer.get(key) for key in GROUPED} != GROUPED:
            yield f"`{mark}` says groups of {layer.get('group_size')!r}, and scales are of groups of 16."
        if layer.get("format") == FORMATS["fp8"] and whole is not True:
            yield f"`{mark}` asks for products in FP8, for which the file has no scales of activations."
        group = rotation_of(layer)
        if not rotation.fits(group, linear.in_features):
            yield f"`{mark}` rotates groups of {group}, which do not divide its {linear.in_features} inputs."
        known = ROTATED | {"format", "full_precision_matrix_mult"} | (GROUPED.keys() if scheme.grouped else set())
        if unknown := sorted(layer.keys() - known):
            yield f"`{mark}` says `{unknown[0]}`, which the runtime does not know."


def _layers(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the header says of each linear; empty where it says nothing that can be read."""
    try:
        content = parse_json(metadata.get(HEADER_MARKS, "").encode())
    except ValueError:
        return {}
    layers = content.get("layers") if isinstance(content, dict) else None
    return layers if isinstance(layers, dict) else {}
