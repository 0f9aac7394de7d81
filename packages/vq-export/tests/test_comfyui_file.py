"""What the exports with one file per transformer share; the files themselves are tested with each target."""

from pathlib import Path
from typing import Any

from vq_core.numerics.scheme import Rounding
from vq_export.comfyui_file import file_of, rotated_linears, rounding_of

Paths = dict[str, Path]


def test_files_are_named_by_model_kind_expert_and_scheme(models: Paths, convert: Any) -> None:
    assert file_of(convert(models["t2v"], "fp8"), "transformer") == "wan_t2v_fp8.safetensors"
    experts = convert(models["i2v-2.2"])
    assert file_of(experts, "transformer_2") == "low_noise_model/wan_i2v_low_noise_int8.safetensors"


def test_only_what_is_converted_is_still_to_be_rounded(models: Paths, convert: Any, make_artifacts: Any) -> None:
    assert rounding_of(convert(models["t2v"], "fp8", rounding="qtorch")) is Rounding.QTORCH
    assert rounding_of(make_artifacts(models["t2v"], "int8").opened()) is None


def test_rotated_linears_are_counted(models: Paths, make_artifacts: Any) -> None:
    assert rotated_linears(make_artifacts(models["t2v"], "int8").opened()) == {}
    rotated = make_artifacts(models["t2v"], "int8", rotation=16).opened()
    assert rotated_linears(rotated) == {"inputs": "rotated for 20 of 20 linears"}
