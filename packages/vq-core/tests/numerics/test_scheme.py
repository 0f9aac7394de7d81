import pytest

from vq_core.errors import VqError
from vq_core.numerics.scheme import FP8, INT8, W4A8, W6A8, NumberFormat, plain_scheme_named, scheme_named, schemes_named


def test_schemes_by_name() -> None:
    assert scheme_named("int8") is INT8
    assert scheme_named("fp8") is FP8
    assert (INT8.weight, INT8.activation) == (NumberFormat.INT8, NumberFormat.INT8)
    assert [(it.weight, it.activation, it.bits) for it in map(scheme_named, ("w6a8", "w4a8"))] == [
        (NumberFormat.INT8, NumberFormat.INT8, bits) for bits in (6, 4)
    ]
    assert [it.grouped for it in (INT8, FP8, W6A8, W4A8)] == [False, False, True, True]
    assert (FP8.weight, FP8.activation) == (NumberFormat.FP8_E4M3, NumberFormat.FP8_E4M3)


def test_a_scheme_with_groups_is_nothing_without_calibration() -> None:
    assert plain_scheme_named("int8") is INT8
    with pytest.raises(VqError, match="^`w4a8` is for calibrated transformers: run vq-algos smooth and quantize"):
        plain_scheme_named("w4a8")
    with pytest.raises(VqError, match="^`int4` is not a scheme that the targets can run: choose int8 or fp8"):
        plain_scheme_named("int4")


def test_several_schemes_are_joined() -> None:
    assert schemes_named("w4a8+int8") == (W4A8, INT8)
    assert schemes_named("fp8") == (FP8,)
    with pytest.raises(VqError, match="^`int8\\+int8` names a scheme twice: name each once"):
        schemes_named("int8+int8")
    with pytest.raises(VqError, match="^`bf16` is not a scheme"):
        schemes_named("int8+bf16")
    with pytest.raises(VqError, match="^`int8\\+fp8` is for calibrated transformers"):
        plain_scheme_named("int8+fp8")


def test_largest_codes() -> None:
    assert (NumberFormat.INT8.qmax, NumberFormat.FP8_E4M3.qmax) == (127, 448)


@pytest.mark.parametrize("name", ["int6", "w4a4", "INT8", "", "int8-static", "fp8_e5m2"])
def test_refuses_what_no_runtime_runs_and_lists_the_known(name: str) -> None:
    with pytest.raises(
        VqError, match=f"`{name}` is not a scheme that the targets can run: choose int8, fp8, w6a8 or w4a8"
    ):
        scheme_named(name)
