"""Targets are found by name."""

import pytest

from vq_core.errors import VqError
from vq_core.targets import TARGETS, require_input_means, require_mixed, require_rotation, require_scheme, target_named


def test_targets_by_name() -> None:
    assert all(target_named(name).name == name for name in TARGETS)
    assert target_named("lightx2v").gains
    assert not target_named("comfyui").gains
    with pytest.raises(VqError, match="`vllm` is not a target: choose one of lightx2v, native, comfyui"):
        target_named("vllm")


def test_what_a_target_cannot_hold_is_refused() -> None:
    for target, scheme in (("lightx2v", "int8"), ("lightx2v", "fp8"), ("comfyui", "int8")):
        require_scheme(target, scheme)
    with pytest.raises(VqError, match=r"^ComfyUI reads one FP8 scale per tensor.* `vq-export comfyui --scheme fp8`\.$"):
        require_scheme("comfyui", "fp8")
    with pytest.raises(VqError, match="^ComfyUI reads one FP8 scale per tensor"):
        require_scheme("comfyui", "int8+fp8")


def test_different_schemes_are_for_targets_that_mix() -> None:
    for target, scheme in (("comfyui", "w4a8+int8"), ("native", "w4a8+int8"), ("native", "int8+fp8")):
        require_scheme(target, scheme)
    with pytest.raises(VqError, match=r"^LightX2V does not run int8\+fp8: take int8, .* `--target native`\.$"):
        require_scheme("lightx2v", "int8+fp8")
    with pytest.raises(VqError, match=r"^LightX2V does not run w4a8\+int8: .* `--target native or comfyui`\.$"):
        require_scheme("lightx2v", "w4a8+int8")


def test_a_rotation_is_for_targets_that_rotate() -> None:
    require_rotation("comfyui")
    with pytest.raises(
        VqError, match=r"^LightX2V does not rotate what a linear reads: .* `--target native or comfyui`\.$"
    ):
        require_rotation("lightx2v")


def test_means_are_subtracted_for_targets_that_can() -> None:
    require_input_means("native")
    for target, title in (("lightx2v", "LightX2V"), ("comfyui", "ComfyUI")):
        sentence = rf"^{title} does not subtract a mean behind GELU, .* `.* --target {target}`, or export for native\.$"
        with pytest.raises(VqError, match=sentence):
            require_input_means(target)


def test_full_precision_is_for_targets_that_mix() -> None:
    for target in ("comfyui", "native"):
        require_mixed(target)
    with pytest.raises(
        VqError, match=r"^LightX2V reads every linear of a block in 8 bits.*`--target native or comfyui`\.$"
    ):
        require_mixed("lightx2v")
