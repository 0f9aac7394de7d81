"""A model that is quantized already is refused by the name of who did it."""

import json
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorInfo
from vq_core.model.already_quantized import Quantizer, quantizer_of, refuse_artifact, refuse_quantized
from vq_core.store.manifest import FILE_NAME

PLAIN = {"blocks.0.norm2.weight": TensorInfo("BF16", (4,), 0, 8)}
WEIGHT = "blocks.0.attn1.to_q.weight"


def infos(**more: tuple[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    """A norm, and a linear's parts; `weight` stands for its weight, `weight_scale` for what follows that name."""
    parts = {f"{WEIGHT.removesuffix('weight')}{part}": TensorInfo(*what, 0, 0) for part, what in more.items()}
    return PLAIN | parts


CODES, SCALE = ("I8", (4, 4)), ("BF16", (4, 1))
FP8 = ("F8_E4M3", (4, 4))


@pytest.mark.parametrize(
    ("found", "native", "quantizer", "said"),
    [
        (infos(weight=CODES, weight_scale=SCALE), False, Quantizer.LLMC, "by LLMC's save_lightx2v .* is I8.*lightx2v"),
        (infos(weight=FP8, weight_scale=SCALE), True, Quantizer.LIGHTX2V, "in LightX2V's layout .*: use it as it is"),
        (infos(weight=FP8), True, Quantizer.FP8_CAST, "by a cast to FP8 without scales .* is F8_E4M3"),
        (infos(weight=("F8_E5M2", (4, 4))), False, Quantizer.FP8_CAST, "by a cast to FP8 without scales"),
        (infos(weight=("U8", (4, 2))), False, Quantizer.UNKNOWN, "in a way that is not known here .* is U8"),
        (infos(weight=FP8, weight_scale=("F32", ())), False, Quantizer.UNKNOWN, "in a way that is not known here"),
    ],
)  # fmt: skip
def test_who_and_what_to_do(found: dict[str, TensorInfo], native: bool, quantizer: Quantizer, said: str) -> None:
    result = quantizer_of(found, native=native)
    assert result is not None
    assert result[0] is quantizer
    with pytest.raises(VqError, match=f"^model is quantized already, {said}"):
        refuse_quantized(Path("model"), found, native=native)


def test_a_plain_model_is_none() -> None:
    plain = infos(weight=("BF16", (4, 4)), bias=("F32", (4,)))
    assert quantizer_of(plain, native=True) is None
    refuse_quantized(Path("model"), plain, native=True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lightx2v-checkpoint", "is a lightx2v-checkpoint, quantized already: .*vq-export diffusers --checkpoint"),
        ("smoothed-weights", "is a smoothed-weights, not a plain model: give it as --weights"),
        ("quant-params", "is a quant-params, quantized already: give it as --qparams"),
    ],
)
def test_artifacts_of_ours_are_refused_by_kind(tmp_path: Path, kind: str, said: str) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"kind": kind}))
    with pytest.raises(VqError, match=said):
        refuse_artifact(tmp_path)


def test_other_folders_are_none_of_them(tmp_path: Path) -> None:
    refuse_artifact(tmp_path)
    (tmp_path / FILE_NAME).write_text(json.dumps({"kind": "diffusers-transformer"}))
    refuse_artifact(tmp_path)
