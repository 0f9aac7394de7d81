"""What the exports with one file per transformer share; the files themselves are tested with each target."""

from pathlib import Path
from typing import Any

from vq_core.numerics.scheme import Rounding
from vq_export.comfyui_file import file_of, linears_told, rounding_of

Paths = dict[str, Path]


def test_files_are_named_by_model_kind_expert_and_scheme(models: Paths, convert: Any) -> None:
    assert file_of(convert(models["t2v"], "fp8"), "transformer") == "wan_t2v_fp8.safetensors"
    experts = convert(models["i2v-2.2"])
    assert file_of(experts, "transformer_2") == "low_noise_model/wan_i2v_low_noise_int8.safetensors"


def test_only_what_is_converted_is_still_to_be_rounded(models: Paths, convert: Any, make_artifacts: Any) -> None:
    assert rounding_of(convert(models["t2v"], "fp8", rounding="qtorch")) is Rounding.QTORCH
    assert rounding_of(make_artifacts(models["t2v"], "int8").opened()) is None


def test_rotated_and_kept_linears_are_counted(models: Paths, make_artifacts: Any) -> None:
    assert linears_told(make_artifacts(models["t2v"], "int8").opened()) == {}
    rotated = make_artifacts(models["t2v"], "int8", rotation=16).opened()
    assert linears_told(rotated) == {"inputs": "rotated for 20 of 20 linears"}
    kept = make_artifacts(models["t2v"], "int8", kept=("blocks.0.ffn.net.2",)).opened()
    assert linears_told(kept) == {"full precision": "1 of 20 linears"}
