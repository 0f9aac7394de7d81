"""What `quantize` can be asked for."""

from typing import Any

import pytest

from vq_algos.rounding.quantize_settings import QuantizeSettings, default_rotate
from vq_core.errors import VqError
from vq_core.numerics.scheme import INT8, W4A8
from vq_core.targets import target_named


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scheme": "int4"}, "`int4` is not a scheme that the targets can run: choose int8, fp8, w6a8 or w4a8"),
        ({"scheme": "int8", "method": "gtpq"}, "`gtpq` is not one of the rounders \\(auto, clip, gptq, rtn\\)"),
        ({"scheme": "int8", "rounding": "up"}, "`up` is not a rounding: choose one of nearest-even, qtorch"),
        ({"scheme": "w4a8", "rotate": "none"}, "^w4a8 always rotates what a linear reads: leave --rotate out"),
        ({"scheme": "w4a8+int8"}, r"^`--scheme w4a8\+int8` needs --min-snr, the output SNR below which"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        QuantizeSettings(**settings)


def test_several_schemes() -> None:
    assert QuantizeSettings("w4a8+int8", min_snr=30.0, rotate="none").schemes == (W4A8, INT8)


@pytest.mark.parametrize(
    ("method", "target", "scheme", "expected"),
    [
        ("rtn", "lightx2v", "int8", "none"),
        ("auto", "lightx2v", "int8", "none"),
        ("rtn", "comfyui", "int8", "none"),
        ("auto", "comfyui", "int8", "auto"),
        ("rtn", "comfyui", "w6a8", "all"),
        ("rtn", "comfyui", "w4a8", "all"),
        ("auto", "native", "w4a8+w6a8", "all"),
        ("auto", "native", "w4a8+int8", "auto"),
    ],
)
def test_auto_rotates_by_itself_where_the_target_can_and_groups_always(
    method: str, target: str, scheme: str, expected: str
) -> None:
    assert default_rotate(method, target_named(target), scheme) == expected
