"""Models that are quantized already: by whom, and what can be done with them."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from vq_core.errors import VqError
from vq_core.files.tensor_file import FLOAT_DTYPES, TensorInfo
from vq_core.store.manifest import kind_of

_ADVICE_TO_ARTIFACTS = {
    "lightx2v-checkpoint": (
        "quantized already: use it as it is, or make full precision of it with `vq-export diffusers --checkpoint`"
    ),
    "smoothed-weights": "not a plain model: give it as --weights",
    "quant-params": "quantized already: give it as --qparams, with its --weights",
}


class Quantizer(Enum):
    """Who quantized a model: how that is said, and what to do."""

    LLMC = (
        "by LLMC's save_lightx2v",
        "convert it with `vq-export lightx2v --model`, or give the model that it was made from",
    )
    LIGHTX2V = (
        "in LightX2V's layout",
        "use it as it is, or make full precision of it with `vq-export diffusers --model`",
    )
    FP8_CAST = ("by a cast to FP8 without scales", "give the model in bf16 or fp16 that it was made from")
    UNKNOWN = ("in a way that is not known here", "give the model in full or half precision")


IMPORTED = {Quantizer.LLMC: "llmc", Quantizer.LIGHTX2V: "lightx2v"}
"""The tools whose codes are kept, and their names in settings in the place of a rounder's."""


def quantizer_of(infos: Mapping[str, TensorInfo], *, native: bool) -> tuple[Quantizer, str] | None:
    """Who quantized the transformer with these tensors, and the tensor that shows it; None for a plain one."""
    codes = [name for name, info in infos.items() if info.dtype not in FLOAT_DTYPES]
    scales = [name for name in infos if name.endswith(".weight_scale")]
    if scales and all(infos[name].shape for name in scales):
        return (Quantizer.LIGHTX2V if native else Quantizer.LLMC), (codes or scales)[0]
    if scales:  # one scale for a whole weight
        return Quantizer.UNKNOWN, scales[0]
    if not codes:
        return None
    only_fp8 = all(infos[name].dtype in ("F8_E4M3", "F8_E5M2") for name in codes)
    return (Quantizer.FP8_CAST if only_fp8 else Quantizer.UNKNOWN), codes[0]


def refuse_quantized(where: Path, infos: Mapping[str, TensorInfo], *, native: bool) -> None:
    """Refuse the transformer in `where` if it is quantized.

    Raises:
        VqError: says by whom, as which tensor shows, and what to do.
    """
    if found := quantizer_of(infos, native=native):
        quantizer, name = found
        by, advice = quantizer.value
        raise VqError(
            f"{where} is quantized already, {by} (`{name}` is {infos[name].dtype} {list(infos[name].shape)}): {advice}."
        )


def refuse_artifact(path: Path) -> None:
    """Refuse the folder `path` if it is an artifact of ours that does not stand for a plain model.

    Raises:
        VqError: says which, and what to do.
    """
    kind = kind_of(path)
    if kind in _ADVICE_TO_ARTIFACTS:
        raise VqError(f"{path} is a {kind}, {_ADVICE_TO_ARTIFACTS[kind]}.")
