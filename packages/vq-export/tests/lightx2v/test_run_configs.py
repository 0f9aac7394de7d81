"""Run configs hold the keys that LightX2V reads."""

import json
from typing import Any

import pytest

from vq_core.artifacts.checkpoint import CHECKPOINT_PLACEHOLDER
from vq_core.errors import VqError
from vq_core.families.wan.kinds import KINDS, Kind
from vq_core.numerics.scheme import FP8, INT8, QuantScheme
from vq_export.lightx2v.run_configs import Task, Variant, notes, run_configs, variant_and_task

FOUR_STEPS = {"steps": 4, "guidance_scale": 1.0}


BY_NAME: dict[tuple[Variant, Task], Kind] = {variant_and_task(kind): kind for kind in KINDS}
# What the authors' code has at 480x832, or where the model only makes one size, there.
AUTHORS: dict[tuple[Variant, Task], tuple[float, float | None]] = {
    ("wan2.1", "i2v"): (3.0, None),
    ("wan2.1", "t2v"): (5.0, None),
    ("wan2.1", "flf2v"): (16.0, None),
    ("wan2.1_vace", "vace"): (16.0, None),
    ("wan2.2_moe_vace", "vace"): (8.0, 0.9),
    ("wan2.2_moe", "i2v"): (5.0, 0.9),
    ("wan2.2_moe", "t2v"): (12.0, 0.875),
    ("wan2.2", "t2v"): (5.0, None),
}


def config_of(variant: Variant, task: Task, **sampling: Any) -> dict[str, Any]:
    return run_configs(BY_NAME[variant, task], INT8, sampling, gains=False)["int8-vllm.json"]


@pytest.mark.parametrize(("variant", "task"), sorted(AUTHORS))
@pytest.mark.parametrize("scheme", [INT8, FP8], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("gains", [True, False])
def test_every_config_has_what_lightx2v_indexes(variant: Variant, task: Task, scheme: QuantScheme, gains: bool) -> None:
    indexed = {
        "infer_steps", "target_video_length", "target_height", "target_width", "sample_guide_scale", "sample_shift",
        "text_len", "self_attn_1_type", "cross_attn_1_type", "cross_attn_2_type", "cpu_offload", "enable_cfg",
    }  # fmt: skip
    configs = run_configs(BY_NAME[variant, task], scheme, {}, gains=gains)
    for name, config in configs.items():
        assert indexed <= config.keys(), name
        assert config["use_image_encoder"] is ((variant, task) in (("wan2.1", "i2v"), ("wan2.1", "flf2v")))
        assert (config["sample_shift"], config.get("boundary")) == AUTHORS[variant, task]
        assert (config["model_cls"], config["task"]) == (variant, task)
        assert config["enable_cfg"] is True
        assert config.get("quant_method") == ("advanced_ptq" if gains else None)
        assert json.loads(json.dumps(config)) == config
    # Old releases read two experts from one folder, and quantize the projections of VACE.
    assert any(name.startswith("old/") for name in configs) is (variant in ("wan2.1", "wan2.2"))


@pytest.mark.parametrize(
    ("scheme", "current", "old"),
    [
        (INT8, {"int8-vllm", "int8-sgl", "int8-torchao", "int8-q8f"}, {"Vllm", "Sgl-ActVllm", "Torchao", "Q8F"}),
        (FP8, {"fp8-vllm", "fp8-sgl", "fp8-torchao", "fp8-q8f"}, {"Vllm", "Sgl", "Q8F"}),
    ],
    ids=["int8", "fp8"],
)
def test_backends_in_both_spellings(scheme: QuantScheme, current: set[str], old: set[str]) -> None:
    configs = run_configs(BY_NAME["wan2.1", "i2v"], scheme, {}, gains=False)

    new_spelling = {name: config for name, config in configs.items() if not name.startswith("old/")}
    assert {config["dit_quant_scheme"] for config in new_spelling.values()} == current
    assert set(new_spelling) == {f"{backend}.json" for backend in current}
    assert all(config["dit_quantized"] is True and "mm_config" not in config for config in new_spelling.values())

    old_spelling = {name: config for name, config in configs.items() if name.startswith("old/")}
    prefix = f"W-{scheme.name}-channel-sym-A-{scheme.name}-channel-sym-dynamic-"
    assert {config["mm_config"]["mm_type"] for config in old_spelling.values()} == {prefix + kernel for kernel in old}
    assert all(config["seed"] == 42 and "dit_quantized" not in config for config in old_spelling.values())


def test_two_experts_are_named_apart() -> None:
    config = config_of("wan2.2_moe", "t2v")
    assert config["high_noise_quantized_ckpt"] == f"{CHECKPOINT_PLACEHOLDER}/high_noise_model"
    assert config["low_noise_quantized_ckpt"] == f"{CHECKPOINT_PLACEHOLDER}/low_noise_model"
    assert "dit_quantized_ckpt" not in config
    assert (config["sample_guide_scale"], config["boundary"]) == ([4.0, 3.0], 0.875)


def test_ti2v_names_its_own_vae() -> None:
    config = config_of("wan2.2", "t2v")
    assert (config["num_channels_latents"], config["vae_stride"], config["fps"]) == (48, [4, 16, 16], 24)


def test_sampling_that_was_said_replaces_the_authors() -> None:
    said = {"steps": 30, "height": 720, "width": 1280, "num_frames": 17, "fps": 24, "guidance_scale": 1.5}
    config, usual = config_of("wan2.1", "i2v", **said), config_of("wan2.1", "i2v", steps=None)
    assert (config.pop("sample_shift"), usual.pop("sample_shift")) == (5.0, 3.0)  # the authors' at 720p and at 480p
    assert {key: value for key, value in config.items() if value != usual[key]} == {
        "infer_steps": 30,
        "target_height": 720,
        "target_width": 1280,
        "target_video_length": 17,
        "fps": 24,
        "sample_guide_scale": 1.5,
    }
    assert usual["sample_guide_scale"] == 5.0


@pytest.mark.parametrize(
    ("said", "scales", "guided"),
    [
        ({"guidance_scale": 3.0, "guidance_scale_2": 2.0}, [3.0, 2.0], True),
        ({"guidance_scale": 3.0}, [3.0, 3.0], True),
        ({"guidance_scale_2": 2.0}, [4.0, 2.0], True),
        ({"guidance_scale": 4.0, "guidance_scale_2": 1.0}, [4.0, 1.0], True),
        ({"guidance_scale": 1.0, "guidance_scale_2": 3.0}, [1.0, 3.0], False),  # the first decides, as in diffusers
    ],
)
def test_scales_of_two_experts(said: dict[str, float], scales: list[float], guided: bool) -> None:
    config = config_of("wan2.2_moe", "t2v", **said)
    assert (config["enable_cfg"], config["sample_guide_scale"]) == (guided, scales)


@pytest.mark.parametrize("said", [{"guidance_scale_2": 2.0}, {"guidance_scale": 5.0, "guidance_scale_2": 5.0}])
def test_a_second_scale_for_one_transformer_is_refused(said: dict[str, float]) -> None:
    with pytest.raises(VqError, match="guidance_scale_2 is for models with two transformers and this one has one"):
        config_of("wan2.1", "i2v", **said)


TOLD = {"flow_shift": 8.0, "boundary_ratio": 0.8, "vae_stride": [4, 16, 16]}


@pytest.mark.parametrize(("variant", "task"), sorted(AUTHORS))
def test_what_the_models_files_say_comes_before_what_its_authors_have(variant: Variant, task: Task) -> None:
    experts = "moe" in variant
    for config in run_configs(BY_NAME[variant, task], INT8, TOLD, gains=False).values():
        assert (config["sample_shift"], config["vae_stride"]) == (8.0, [4, 16, 16])
        assert config.get("boundary") == (0.8 if experts else None)
    assert list(notes(BY_NAME[variant, task], TOLD)) == ["model"]


def test_a_boundary_and_a_shift_of_its_own_part_the_distilled_experts() -> None:
    told = {"flow_shift": 1.0, "boundary_ratio": 0.6}
    config = config_of("wan2.2_moe", "i2v", **FOUR_STEPS, **told)
    assert (config["sample_shift"], config["boundary_step_index"]) == (1.0, 2)  # 1, 0.75, 0.5, 0.25


def test_the_summary_says_which_values_are_the_authors() -> None:
    found = notes(BY_NAME["wan2.2_moe", "t2v"], {})
    assert found["model"] == "Wan2.2 T2V A14B (16 to 16 channels, no image encoder, two experts)"
    assert found["shift"].startswith("12, as the authors of Wan2.2 T2V A14B have it")
    assert found["boundary"].startswith("0.875, as the authors of Wan2.2 T2V A14B have it")
    assert notes(BY_NAME["wan2.1", "i2v"], FOUR_STEPS)["shift"].startswith(
        "5, as the makers of distilled models have it"
    )


def test_a_distilled_model_at_another_shift_than_most_is_spoken_of() -> None:
    kind = BY_NAME["wan2.1", "t2v"]
    assert notes(kind, FOUR_STEPS | {"flow_shift": 3.0})["shift"].startswith("3, as the model's scheduler has it: most")
    assert "shift" not in notes(kind, FOUR_STEPS | {"flow_shift": 5.0})
    assert "shift" not in notes(kind, {"flow_shift": 3.0})


def test_a_model_that_may_be_one_expert_alone_is_not_taken_for_another_without_a_word() -> None:
    assert "one expert of Wan2.2 T2V looks the same" in notes(BY_NAME["wan2.1", "t2v"], {})["model"]
    assert "expert of" not in notes(BY_NAME["wan2.1", "t2v"], {"flow_shift": 3.0})["model"]  # its pipeline has one


def test_a_scheduler_that_says_no_shift_is_refused() -> None:
    with pytest.raises(VqError, match="scheduler_config.json says no flow_shift, and LightX2V needs one"):
        config_of("wan2.1", "t2v", flow_shift=None)


@pytest.mark.parametrize(("variant", "task"), [("wan2.1", "t2v"), ("wan2.1", "i2v"), ("wan2.1", "flf2v")])
def test_without_guidance_a_distilled_class_goes_through_a_list_of_timesteps(variant: Variant, task: Task) -> None:
    configs = run_configs(BY_NAME[variant, task], INT8, FOUR_STEPS, gains=False)
    assert any(name.startswith("old/") for name in configs)
    for config in configs.values():
        assert (config["model_cls"], config["task"]) == ("wan2.1_distill", task)
        assert config["denoising_step_list"] == [1000, 750, 500, 250]  # LightX2V's own, for its distilled models
        assert (config["enable_cfg"], config["infer_steps"], config["sample_shift"]) == (False, 4, 5.0)
        assert config["use_image_encoder"] is (task != "t2v")


@pytest.mark.parametrize("task", ["t2v", "i2v"])
def test_distilled_experts_part_by_step(task: Task) -> None:
    config = config_of("wan2.2_moe", task, **FOUR_STEPS)
    # Shift 5 makes 1, 0.94, 0.83, 0.63 of the four; LightX2V's own configs say 2 as well.
    assert (config["model_cls"], config["boundary_step_index"]) == ("wan2.2_moe_distill", 2)
    assert "boundary" not in config
    assert config["sample_guide_scale"] == [1.0, 1.0]
    config = config_of("wan2.2_moe", task, **FOUR_STEPS | {"steps": 8})
    assert config["denoising_step_list"] == [1000, 875, 750, 625, 500, 375, 250, 125]
    # 1, 0.972, 0.938, 0.893, 0.833: the third is above both boundaries, the fourth above t2v's alone.
    assert config["boundary_step_index"] == (4 if task == "t2v" else 3)


@pytest.mark.parametrize(("variant", "task"), [("wan2.2", "t2v"), ("wan2.1_vace", "vace")])
def test_without_a_distilled_class_guidance_is_left_out_alone(variant: Variant, task: Task) -> None:
    config = config_of(variant, task, **FOUR_STEPS)
    assert (config["model_cls"], config["enable_cfg"], config["infer_steps"]) == (variant, False, 4)
    assert "denoising_step_list" not in config
