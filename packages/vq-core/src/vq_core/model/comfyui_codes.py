"""Weights that were quantized for ComfyUI, dequantized as they are read: W = codes · scale, fp32.

ComfyUI marks them in two ways. The first has `STEM.scale_weight`, and a tensor `scaled_fp8` in the file. The second has
`STEM.weight_scale`, and what its codes are is JSON: in the tensor `STEM.comfy_quant`, in the file's header, or in both.
The dtype of the codes decides: files with the mark for FP8 may hold int8 or whole weights. INT8 codes may be of rotated
weights (ConvRot), which are rotated back.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.json_file import parse_json
from vq_core.files.tensor_file import DTYPES, FLOAT_DTYPES, TensorInfo
from vq_core.files.weights_file import SafetensorsFile
from vq_core.model.tensor_naming import PREFIXES, StoredTensor, load_stored
from vq_core.numerics.finite import require_finite
from vq_core.numerics.rotation import NONE, fits, rotate

FILE_MARK = "scaled_fp8"
OLD_SCALE, NEW_SCALE, MARK = ".scale_weight", ".weight_scale", ".comfy_quant"
LEFT_OUT = (".scale_input", ".input_scale")
"""Scales of activations: the weights do not depend on them."""
HEADER_MARKS = "_quantization_metadata"
FORMATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
"""What ComfyUI calls the formats that are read, and safetensors' name of their codes' dtype."""
CONVROT = 256
"""The group of a rotation that does not say it."""
MAX_MARK_BYTES = 4096
_ROTATION = re.compile(r"rot|hadamard", re.IGNORECASE)
_ADVICE = "give the model in bf16 or fp16 that it was made from"


@dataclass(frozen=True)
class _Quantized:
    codes: StoredTensor
    scale: StoredTensor
    rotation: int = NONE


class ComfyuiWeights:
    """The weights of one transformer that have codes and a scale, as a `WeightsFile` of the dequantized ones."""

    def __init__(self, where: Path, weights: Mapping[str, _Quantized]) -> None:
        """Those of `weights`, by name, that lie in `where`.

        Raises:
            VqError: a scale has another shape than one number, one per row, or one per block of a row.
        """
        self.path = where
        self._weights = weights
        for name, weight in weights.items():
            _require_shape(where, name, weight)
        self.infos: Mapping[str, TensorInfo] = {
            name: _dequantized(weight.codes.info) for name, weight in weights.items()
        }

    @property
    def dtypes(self) -> Counter[str]:
        """How many weights there are of each dtype of codes."""
        codes = (weight.codes.info.dtype for weight in self._weights.values())
        return Counter(dtype for dtype in codes if dtype not in FLOAT_DTYPES)

    def load(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The weights `names`, fp32; a weight that is no codes keeps its dtype.

        Raises:
            VqError: a file has changed since it was opened, or codes or scale have values that are no weights.
        """
        return {name: self._weight(name, device) for name in names}

    def ends(self, name: str, size: int) -> tuple[bytes, bytes]:
        """The first and the last `size` bytes of the codes, each followed by as many of the scale."""
        weight = self._weights[name]
        (first, last), (first_scale, last_scale) = (
            tensor.file.ends(tensor.key, size) for tensor in (weight.codes, weight.scale)
        )
        return first + first_scale, last + last_scale

    def _weight(self, name: str, device: str) -> Tensor:
        weight = self._weights[name]
        codes, scale = load_stored({"codes": weight.codes, "scale": weight.scale}, device).values()
        scale_name = f"The scale of `{name}`"
        if weight.codes.info.dtype in FLOAT_DTYPES:
            if bool((scale.float() != 1).any()):
                raise VqError(f"{scale_name} in {self.path} is not 1, and the weight is no codes: {_ADVICE}.")
            return codes
        values, scale = codes.float(), scale.float()
        by_block = values.reshape(scale.shape[0], scale.shape[1], -1) if scale.ndim == 3 else values
        if scale.numel() > 1 and scale.ndim < 3:
            scale = scale.reshape(-1, *[1] * (codes.ndim - 1))
        product = (by_block * scale).reshape(codes.shape)
        if bool((scale < 0).any()) or (bool((scale == 0).any()) and not torch.equal(product != 0, values != 0)):
            raise VqError(f"{scale_name} in {self.path} has values that are not positive: get it again.")
        require_finite(product, name, self.path)
        return rotate(product, weight.rotation)


def dequantize_comfyui(tensors: Mapping[str, StoredTensor], where: Path) -> tuple[dict[str, StoredTensor], str]:
    """Those of `tensors` (by name, in `where`) that belong to a model, where weights have no codes any more.

    Returns:
        The tensors, and what the weights were rounded to, such as "328 weights in F8_E4M3"; empty if none were.

    Raises:
        VqError: they are quantized in another way than by rounding with a scale, or a part is missing.
    """
    marks = _marks(tensors, where)
    groups: dict[str, int] = {}
    for stem, mark in marks:
        _require_known(where, stem, mark, tensors)
        if groups.setdefault(stem, rotation_of(mark)) != rotation_of(mark):
            raise VqError(
                f"`{stem}` in {where} is rotated according to its marker or its header, not to both: {_ADVICE}."
            )
    scales = {stem: f"{stem}{NEW_SCALE}" for stem, _ in marks}
    scales |= {name.removesuffix(OLD_SCALE): name for name in tensors if name.endswith(OLD_SCALE)}
    quantized = {
        f"{stem}.weight": _Quantized(tensors[f"{stem}.weight"], tensors[scale], groups.get(stem, NONE))
        for stem, scale in scales.items()
        if f"{stem}.weight" in tensors
    }
    weights = ComfyuiWeights(where, quantized)
    used = {FILE_MARK, *(scales[name.removesuffix(".weight")] for name in quantized)}
    used |= {f"{name.removesuffix('.weight')}{part}" for name in quantized for part in (MARK, *LEFT_OUT)}
    kept = {name: tensor for name, tensor in tensors.items() if name not in used}
    kept |= {name: StoredTensor(weights, name) for name in quantized}
    said = " and ".join(f"{count} weights in {dtype}" for dtype, count in sorted(weights.dtypes.items()))
    return {name: kept[name] for name in tensors if name in kept}, said


def rotation_of(mark: Any) -> int:
    """How many channels a linear's `mark` says are rotated together; 1 for none, 0 where it says no such number."""
    if not isinstance(mark, dict) or not mark.get("convrot"):
        return NONE
    group = mark.get("convrot_groupsize", CONVROT)
    return group if isinstance(group, int) and group > NONE else 0


def _marks(tensors: Mapping[str, StoredTensor], where: Path) -> list[tuple[str, Any]]:
    """What is said of each linear, by the name of its weight without `.weight`; twice if both places say it."""
    found: list[tuple[str, Any]] = []
    for name, tensor in tensors.items():
        if name.endswith(MARK):
            if tensor.info.dtype != "U8" or prod(tensor.info.shape) > MAX_MARK_BYTES:
                raise VqError(f"`{name}` in {where} is {tensor.info.dtype} and no short text: {_ADVICE}.")
            (content,) = load_stored({name: tensor}).values()
            found.append((name.removesuffix(MARK), _parsed(content.numpy().tobytes(), name, where)))
    stems = {tensor.key.removesuffix(".weight"): name.removesuffix(".weight") for name, tensor in tensors.items()}
    stems |= {stem.removeprefix(prefix): name for stem, name in stems.items() for prefix in PREFIXES}
    for file in {tensor.file for tensor in tensors.values()}:
        if not isinstance(file, SafetensorsFile) or HEADER_MARKS not in file.metadata:
            continue
        noted = _parsed(file.metadata[HEADER_MARKS].encode(), HEADER_MARKS, file.path)
        layers = noted.get("layers") if isinstance(noted, dict) else None
        if not isinstance(layers, dict):
            raise VqError(f"`{HEADER_MARKS}` in {file.path} names no layers: {_ADVICE}.")
        found += [(stems[stem], mark) for stem, mark in layers.items() if stem in stems]
    return found


def _parsed(content: bytes, name: str, where: Path) -> Any:
    try:
        return parse_json(content)
    except ValueError as error:
        raise VqError(f"`{name}` in {where} is not JSON ({error}): {_ADVICE}.") from None


def _require_known(where: Path, stem: str, mark: Any, tensors: Mapping[str, StoredTensor]) -> None:
    said = mark if isinstance(mark, dict) else {}
    nested = said.get("params")
    both = [*said.items(), *(nested.items() if isinstance(nested, dict) else ())]
    name = dict(reversed(both)).get("format")
    rotated = [key for key, value in both if value and _ROTATION.search(key) and not key.endswith("size")]
    if rotated and (rotated != ["convrot"] or not said.get("convrot") or name != "int8_tensorwise"):
        raise VqError(
            f"`{stem}` in {where} is rotated in another way than ComfyUI's ConvRot of INT8 ({rotated[0]}), which is "
            f"not undone here: {_ADVICE}."
        )
    if not isinstance(name, str) or name not in FORMATS:
        raise VqError(
            f"`{stem}` in {where} is quantized for ComfyUI as {name if name else 'something that it does not say'}, "
            f"and {', '.join(FORMATS)} are read: {_ADVICE}."
        )
    for part in (".weight", NEW_SCALE):
        if f"{stem}{part}" not in tensors:
            raise VqError(f"{where} lacks the tensor `{stem}{part}`: get it again.")
    dtype = tensors[f"{stem}.weight"].info.dtype
    if dtype != FORMATS[name]:
        raise VqError(f"`{stem}.weight` in {where} is {dtype} and marked as {name}: {_ADVICE}.")
    shape = tensors[f"{stem}.weight"].info.shape
    if rotated and (len(shape) != 2 or not fits(rotation_of(said), shape[1])):
        raise VqError(
            f"`{stem}.weight` in {where} is rotated in groups of {said.get('convrot_groupsize', CONVROT)!r}, and its "
            f"shape is {list(shape)}: get it again."
        )


def _require_shape(where: Path, name: str, weight: _Quantized) -> None:
    codes, scale = weight.codes.info, weight.scale.info
    if codes.dtype not in (*FORMATS.values(), *FLOAT_DTYPES) or scale.dtype not in FLOAT_DTYPES:
        raise VqError(f"`{name}` in {where} is {codes.dtype} with a scale in {scale.dtype}: {_ADVICE}.")
    rows, columns = (codes.shape[0], prod(codes.shape[1:])) if codes.shape else (0, 0)
    one = prod(scale.shape) == 1
    by_row = scale.shape in ((rows,), (rows, 1))
    by_block = len(scale.shape) == 3 and scale.shape[0] == rows and scale.shape[2] == 1
    if not (one or by_row or (by_block and scale.shape[1] > 0 and columns % scale.shape[1] == 0)):
        raise VqError(
            f"The scale of `{name}` in {where} is {list(scale.shape)} and the weight {list(codes.shape)}: neither "
            f"one scale, nor one for each row or each block of a row: {_ADVICE}."
        )


def _dequantized(codes: TensorInfo) -> TensorInfo:
    if codes.dtype in FLOAT_DTYPES:
        return codes
    return TensorInfo("F32", codes.shape, 0, DTYPES["F32"].itemsize * prod(codes.shape))
