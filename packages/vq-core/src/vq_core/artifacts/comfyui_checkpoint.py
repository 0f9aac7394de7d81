"""`comfyui-checkpoint` and `native-checkpoint`: one file per transformer, with our manifest beside them.

Native names. For every quantized linear `STEM.weight` (codes `[out, in]`), `STEM.weight_scale` (fp32, INT8 `[out, 1]`,
FP8 `[]`), `STEM.bias`, and `STEM.comfy_quant`, JSON bytes that say what the codes are. The header says the same of all
linears under `_quantization_metadata`; see docs/formats/comfyui-checkpoint.md.

Codes of 4 or 6 bits are packed in `STEM.weight` (`vq_core.numerics.grouped`), with `STEM.weight_s_channel` (fp32
`[out]`), `STEM.weight_s_rel` (float8_e4m3fn `[out, in/16]`) and at 4 bits `STEM.weight_codebook` (fp32 `[16]`).

A native checkpoint also holds what ComfyUI by itself does not compute: `STEM.pre_quant_scale` (fp32 `[in]`), the gain
of a linear's input, `STEM.pre_quant_mean` (fp32 `[in]`), which a linear behind GELU subtracts from its input, and one
FP8 scale per channel for tokens that are quantized too. Linears with one of them are of formats that ComfyUI does not
know, so that it refuses the file where our node is missing.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.checkpoint import CheckpointTensor, ConvertedCheckpoint, ConvertedTransformer, Role
from vq_core.artifacts.kept_names import KEPT, kept_names
from vq_core.artifacts.models_in_place import models_told
from vq_core.artifacts.stored_scheme import stored_scheme
from vq_core.errors import VqError
from vq_core.families import Family
from vq_core.files.json_file import parse_json
from vq_core.model.comfyui_codes import MARK, rotation_of
from vq_core.numerics import rotation
from vq_core.numerics.centering import subtracts_itself
from vq_core.numerics.grouped import CODEBOOK, GROUP, Packed, packed_width, unpack
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat, QuantScheme, schemes_named
from vq_core.remote.location import Location
from vq_core.store.reader import open_artifact
from vq_core.topology import Linear

KIND = "comfyui-checkpoint"
NATIVE_KIND = "native-checkpoint"
FORMATS = {KIND: 1, NATIVE_KIND: 2}
"""By kind. Native ones are 2 since linears subtract means, which an older version would not do."""
GAIN = ".pre_quant_scale"
MEAN = ".pre_quant_mean"

Layer = Mapping[str, JsonValue]
"""What ComfyUI is told of a linear."""

LAYERS: Mapping[NumberFormat, Layer] = {
    # One scale per channel; the kernel quantizes activations per token.
    NumberFormat.INT8: {"format": "int8_tensorwise"},
    # ComfyUI's FP8 product would cast activations without any scale: with this key it multiplies in full precision, and
    # only the weight is quantized.
    NumberFormat.FP8_E4M3: {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
}


GROUPED_FORMAT = "asym_w4a8_int8"
"""INT8 codes that are stored with 4 or 6 bits; which, the width of the codes says."""
GAIN_FORMAT = "vq_int8_gain"
GROUPED_GAIN_FORMAT = "vq_w4a8_gain"
"""As the two above, of an input that is first multiplied by `pre_quant_scale`."""
MEAN_FORMAT = "vq_int8_mean"
GROUPED_MEAN_FORMAT = "vq_w4a8_mean"
"""The same, of an input from which `pre_quant_mean` is first subtracted."""
CHANNEL_FORMAT = "vq_fp8_channel"
"""E4M3 codes with a scale per channel, of tokens that are quantized to E4M3, too; with either of these or without."""


def layer_of(
    scheme: QuantScheme, group: int, *, gain: bool = False, mean: bool = False, per_channel: bool = False
) -> dict[str, JsonValue]:
    """What is said of a linear's codes in `scheme`, of which `group` channels are rotated together (ConvRot).

    `gain` and `mean` say whether its input has one, `per_channel` whether FP8 has a scale per channel.
    """
    if scheme.grouped:
        name = GROUPED_GAIN_FORMAT if gain else GROUPED_MEAN_FORMAT if mean else GROUPED_FORMAT
        return {"format": name, "group_size": GROUP, "convrot": True, "convrot_groupsize": group}
    own = GAIN_FORMAT if gain else MEAN_FORMAT if mean else None
    layer = {"format": CHANNEL_FORMAT} if per_channel else LAYERS[scheme.weight] if own is None else {"format": own}
    return {**layer, **({} if group == rotation.NONE else {"convrot": True, "convrot_groupsize": group})}


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


def grouped_tensors(linear: Linear, bits: int) -> dict[str, tuple[Role, tuple[int, ...]]]:
    """Role and shape of the tensors of a weight in so many bits, by what follows `STEM.weight` in their name."""
    rows, columns = linear.out_features, linear.in_features
    tensors: dict[str, tuple[Role, tuple[int, ...]]] = {
        "": (Role.CODES, (rows, packed_width(bits, columns))),
        "_s_rel": (Role.GROUP_SCALE, (rows, columns // GROUP)),
        "_s_channel": (Role.SCALE, (rows,)),
    }
    return tensors | ({"_codebook": (Role.CODEBOOK, (len(CODEBOOK),))} if bits == 4 else {})


class ComfyuiTransformer(ConvertedTransformer):
    """One transformer of the checkpoint."""

    def _kept(self, linears: frozenset[str]) -> frozenset[str]:
        said = self._artifact.manifest.settings.get(KEPT, {})
        return kept_names(said, self._name, linears, self._artifact.path)

    def scheme_of(self, linear: str) -> QuantScheme:
        """The scheme of the quantized linear `linear`."""
        return self._schemes[linear]

    def _stored_scheme(self, weight: str) -> QuantScheme:
        """The scheme of the linear whose codes are the tensor `weight`; where none fits, the first one of the file."""
        first, *others = schemes_named(str(self._artifact.manifest.settings["scheme"]))
        table = self._artifact.manifest.components[self._name].tensors
        if not others or weight not in table:
            return first
        found = stored_scheme(table[weight], table.get(f"{weight}_s_rel"))
        return found if found in others else first

    def _table(self, family: Family, *, gains: bool) -> dict[str, CheckpointTensor]:
        table = super()._table(family, gains=False)
        weights = {linear: family.to_native(f"{linear.name}.weight") for linear in self.topology.linears}
        self._schemes = {linear.name: self._stored_scheme(weight) for linear, weight in weights.items()}
        for linear, weight in weights.items():
            scheme, gain = self._schemes[linear.name], self.topology.gain_of(linear.name)
            stem = weight.removesuffix(".weight")
            if scheme.grouped:
                del table[f"{weight}_scale"]
                for part, (role, shape) in grouped_tensors(linear, scheme.bits).items():
                    table[f"{weight}{part}"] = CheckpointTensor(role, linear.name, shape, linear.shard)
            if gains and gain is not None:
                table[stem + GAIN] = CheckpointTensor(Role.GAIN, gain, (linear.in_features,), linear.shard)
            centered = self.measured.get(linear.name, {}).get("centered")
            if centered and subtracts_itself(self.topology.group_of(linear.name)):
                table[stem + MEAN] = CheckpointTensor(Role.MEAN, linear.name, (linear.in_features,), linear.shard)
        return table

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        """Codes, scale `[out, 1]` and rotation of the quantized linear `name`; codes of fewer bits than 8 as INT8."""
        if self.scheme_of(name).grouped:
            return unpack(self.packed(name, device))
        quantized = super().linear(name, device)
        scale = quantized.scale.reshape(-1, 1).expand(len(quantized.codes), 1).contiguous()
        return Quantized(quantized.codes, scale, self._rotation(name))

    def packed(self, name: str, device: str = "cpu") -> Packed:
        """Codes and scales of the linear `name`, of 4 or 6 bits, as they are stored."""
        roles = (Role.CODES, Role.GROUP_SCALE, Role.SCALE)
        loaded = self._artifact.tensors(self._name, [self._native[role][name] for role in roles], device)
        codes, group_scale, scale = loaded.values()
        return Packed(codes, group_scale, scale.unsqueeze(1), self._rotation(name))

    def _rotation(self, linear: str) -> int:
        mark = self.stem(linear) + MARK
        return rotation_of(read_marker(self._artifact.tensors(self._name, [mark])[mark], mark))

    def stem(self, linear: str) -> str:
        """The name of `linear` in the file."""
        return self._native[Role.CODES][linear].removesuffix(".weight")


class ComfyuiCheckpoint(ConvertedCheckpoint):
    """An opened comfyui-checkpoint artifact."""

    @property
    def native(self) -> bool:
        """May it hold what ComfyUI by itself does not compute?"""
        return self.artifact.manifest.kind == NATIVE_KIND

    @cached_property
    def components(self) -> Mapping[str, ComfyuiTransformer]:
        """The transformers by component name."""
        names = self.artifact.manifest.components
        return {name: ComfyuiTransformer(self.artifact, name, self.family, self.has_gains) for name in names}


def open_comfyui_checkpoint(path: Location, kind: str = KIND) -> ComfyuiCheckpoint:
    """Open the artifact in `path`, of one of the two kinds.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    with models_told(path):
        return ComfyuiCheckpoint(open_artifact(path, kind, FORMATS[kind]))
