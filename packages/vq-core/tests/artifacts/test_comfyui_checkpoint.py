"""What is said of a linear in ComfyUI's layout, and how it is read; whole files are tested where they are written."""

from typing import Any

import pytest
import torch

from vq_core.artifacts.comfyui_checkpoint import layer_of, marker_of, read_marker
from vq_core.errors import VqError
from vq_core.model.comfyui_codes import rotation_of
from vq_core.numerics.scheme import FP8, INT8, W4A8, W6A8

ROTATED_GROUPS = {"group_size": 16, "convrot": True, "convrot_groupsize": 256}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layer_of(INT8, 1), {"format": "int8_tensorwise"}),
        (layer_of(INT8, 64), {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 64}),
        (layer_of(INT8, 1, gain=True), {"format": "vq_int8_gain"}),
        (layer_of(FP8, 1), {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}),
        (layer_of(W4A8, 256), {"format": "asym_w4a8_int8"} | ROTATED_GROUPS),
        (layer_of(W6A8, 256, gain=True), {"format": "vq_w4a8_gain"} | ROTATED_GROUPS),
        (
            layer_of(FP8, 4, gain=True, per_channel=True),
            {"format": "vq_fp8_channel"} | {"convrot": True, "convrot_groupsize": 4},
        ),
    ],
)
def test_what_comfyui_is_told_comes_back(layer: dict[str, Any], expected: dict[str, Any]) -> None:
    assert layer == expected
    assert read_marker(marker_of(layer), "x") == expected
    assert rotation_of(layer) == expected.get("convrot_groupsize", 1)


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"{", r"`a\.comfy_quant` is not JSON"), (b"[1]", "is no JSON object")]
)
def test_a_marker_that_says_nothing_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        read_marker(torch.frombuffer(bytearray(content), dtype=torch.uint8), "a.comfy_quant")
