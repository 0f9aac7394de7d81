"""`comfyui-checkpoint`: one file per transformer that ComfyUI loads, with our manifest beside them.

Native names. For every quantized linear `STEM.weight` (codes `[out, in]`), `STEM.weight_scale` (fp32, INT8 `[out, 1]`,
FP8 `[]`), `STEM.bias`, and `STEM.comfy_quant`, JSON bytes that say what the codes are. The header says the same of all
linears under `_quantization_metadata`; see docs/formats/comfyui-checkpoint.md.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint, ConvertedTransformer, Role
from vq_core.artifacts.models_in_place import models_told
from vq_core.errors import VqError
from vq_core.files.json_file import parse_json
from vq_core.model.comfyui_codes import CONVROT, MARK
from vq_core.numerics import rotation
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat
from vq_core.remote.location import Location
from vq_core.store.reader import open_artifact

KIND = "comfyui-checkpoint"
FORMAT = 1

Layer = Mapping[str, JsonValue]
"""What ComfyUI is told of a linear."""

LAYERS: Mapping[NumberFormat, Layer] = {
    # One scale per channel; the kernel quantizes activations per token.
    NumberFormat.INT8: {"format": "int8_tensorwise"},
    # ComfyUI's FP8 product would cast activations without any scale: with this key it multiplies in full precision, and
    # only the weight is quantized.
    NumberFormat.FP8_E4M3: {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
}


def layer_of(fmt: NumberFormat, group: int) -> dict[str, JsonValue]:
    """What ComfyUI is told of codes in `fmt` of which `group` channels are rotated together: that is its ConvRot."""
    return {**LAYERS[fmt], **({} if group == rotation.NONE else {"convrot": True, "convrot_groupsize": group})}


def marker_of(layer: Layer) -> Tensor:
    """The JSON bytes of `layer`, uint8."""
    return torch.frombuffer(bytearray(json.dumps(layer).encode()), dtype=torch.uint8)


def read_marker(marker: Tensor, name: str) -> dict[str, Any]:
    """The content of `STEM.comfy_quant`, here called `name`.

    Raises:
        VqError: it is no JSON object.
    """
    try:
        layer = parse_json(marker.cpu().numpy().tobytes())
    except ValueError as error:
        raise VqError(f"`{name}` is not JSON ({error}): export the checkpoint again.") from None
    if not isinstance(layer, dict):
        raise VqError(f"`{name}` is no JSON object: export the checkpoint again.")
    return layer


def rotation_of(layer: Layer) -> int:
    """How many channels are rotated together where ComfyUI is told `layer`; 1 for none."""
    group = layer.get("convrot_groupsize", CONVROT) if layer.get("convrot") else rotation.NONE
    return group if isinstance(group, int) else 0


class ComfyuiTransformer(ConvertedTransformer):
    """One transformer of the checkpoint."""

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        """Codes, scale `[out, 1]` and rotation of the quantized linear `name`."""
        quantized = super().linear(name, device)
        mark = self.stem(name) + MARK
        layer = read_marker(self._artifact.tensors(self._name, [mark])[mark], mark)
        scale = quantized.scale.reshape(-1, 1).expand(len(quantized.codes), 1).contiguous()
        return Quantized(quantized.codes, scale, rotation_of(layer))

    def stem(self, linear: str) -> str:
        """The name of `linear` in the file."""
        return self._native[Role.CODES][linear].removesuffix(".weight")


class ComfyuiCheckpoint(ConvertedCheckpoint):
    """An opened comfyui-checkpoint artifact."""

    @property
    def has_gains(self) -> bool:
        """ComfyUI multiplies no norm by a gain."""
        return False

    @cached_property
    def components(self) -> Mapping[str, ComfyuiTransformer]:
        """The transformers by component name."""
        names = self.artifact.manifest.components
        return {name: ComfyuiTransformer(self.artifact, name, self.family, gains=False) for name in names}


def open_comfyui_checkpoint(path: Location) -> ComfyuiCheckpoint:
    """Open the comfyui-checkpoint artifact in `path`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    with models_told(path):
        return ComfyuiCheckpoint(open_artifact(path, KIND, FORMAT))
