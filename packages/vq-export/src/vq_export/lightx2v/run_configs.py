"""What LightX2V needs to run a converted checkpoint: one run config per kernel backend, and a script that starts it.

LightX2V merges, each over the one before: its defaults, the command line, the run config, the model's config.json,
the quantized checkpoint's config.json. Releases before October 2025 name the backend in `mm_config` ("old" here),
later ones in `dit_quant_scheme`.

A model that is sampled without guidance is a distilled one: LightX2V has classes for these, which take Euler steps
through a list of timesteps. The other classes take UniPC steps.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

from vq_core.artifacts.checkpoint import CHECKPOINT_PLACEHOLDER
from vq_core.families.wan.sampling import USUAL
from vq_core.numerics.scheme import QuantScheme
from vq_core.sampling.guidance import is_guided, scales_of

Task = Literal["i2v", "t2v", "flf2v", "vace"]
Variant = Literal["wan2.1", "wan2.1_vace", "wan2.2_moe", "wan2.2_moe_vace", "wan2.2"]

RUN_SCRIPT = "run_lightx2v.sh"

# Scheme → backend → its class in old releases, None where they had none. `triton` is left out: its activation kernel
# casts to an integer before it adds one half, so it truncates where the others round to nearest.
BACKENDS: Mapping[str, Mapping[str, str | None]] = {
    "int8": {
        "vllm": "W-int8-channel-sym-A-int8-channel-sym-dynamic-Vllm",
        "sgl": "W-int8-channel-sym-A-int8-channel-sym-dynamic-Sgl-ActVllm",
        "torchao": "W-int8-channel-sym-A-int8-channel-sym-dynamic-Torchao",
        "q8f": "W-int8-channel-sym-A-int8-channel-sym-dynamic-Q8F",
    },
    "fp8": {
        "vllm": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm",
        "sgl": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Sgl",
        "torchao": None,
        "q8f": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Q8F",
    },
}


# Timestep shift of the model authors' own code, for every model that LightX2V runs.
SHIFTS: Mapping[tuple[Variant, Task], float] = {
    ("wan2.1", "i2v"): 3.0,
    ("wan2.1", "t2v"): 5.0,
    ("wan2.1", "flf2v"): 16.0,
    ("wan2.1_vace", "vace"): 16.0,
    ("wan2.2_moe_vace", "vace"): 8.0,
    ("wan2.2_moe", "i2v"): 5.0,
    ("wan2.2_moe", "t2v"): 12.0,
    ("wan2.2", "i2v"): 5.0,
    ("wan2.2", "t2v"): 5.0,
}
# What distilled models of every task were trained with.
DISTILLED_SHIFT = 5.0
# Classes for distilled models; the other variants run few steps without guidance in their usual class.
DISTILLED_CLASSES: Mapping[Variant, str] = {"wan2.1": "wan2.1_distill", "wan2.2_moe": "wan2.2_moe_distill"}
# Share of the trajectory, in sigma, below which the low-noise expert takes over.
BOUNDARY: Mapping[Task, float] = {"i2v": 0.9, "t2v": 0.875, "vace": 0.9}
EXPERTS = ("wan2.2_moe", "wan2.2_moe_vace")
TRAIN_TIMESTEPS = 1000
SEED = 42


def variant_and_task(native_config: Mapping[str, Any], experts: int) -> tuple[Variant, Task]:
    """LightX2V's name of a model and what it makes, from its native config and the number of its transformers.

    TI2V-5B (48 latent channels) makes videos from text and from images: it counts as t2v here, and the script makes it
    i2v when an image is given. In the same way the script makes Wan 2.2's i2v flf2v when a last frame is given.
    """
    model_type = native_config["model_type"]
    if model_type == "vace":
        return ("wan2.2_moe_vace" if experts == 2 else "wan2.1_vace"), "vace"
    task: Task = model_type if model_type in ("i2v", "flf2v") else "t2v"
    if experts == 2:
        return "wan2.2_moe", task
    return ("wan2.2" if native_config["in_dim"] == 48 else "wan2.1"), task


def run_configs(
    variant: Variant, task: Task, scheme: QuantScheme, sampling: Mapping[str, Any], *, gains: bool
) -> dict[str, dict[str, Any]]:
    """Run configs by file name: `int8-vllm.json` for LightX2V now, `old/int8-vllm.json` for releases with `mm_config`.

    `sampling` replaces the settings of the model's authors, by the names of a recipe's `eval`. `gains` says whether the
    checkpoint has `affine_norm` tensors. Old releases read both experts of Wan 2.2 from one folder when a config names
    it, and quantize the projections between VACE's two stacks: these models have no old configs.

    Raises:
        VqError: `sampling` has a second guidance scale for a model with one transformer.
    """
    chosen = _sampling_keys(variant, task, sampling)
    common = chosen | _model_keys(task, variant) | _class_keys(task, variant, chosen)
    if gains:
        # With two experts LightX2V reads neither expert's config.json, so the run config has to say it.
        common["quant_method"] = "advanced_ptq"
    configs: dict[str, dict[str, Any]] = {}
    for backend, old_class in BACKENDS[scheme.name].items():
        name = f"{scheme.name}-{backend}"
        configs[f"{name}.json"] = (
            common
            | {
                "dit_quantized": True,
                "dit_quant_scheme": name,
                # The default rotary embedding needs flashinfer, which LightX2V does not install; this one needs torch.
                "rope_type": "torch_complex_rope",
            }
            | _checkpoint_keys(variant)
        )
        if old_class is not None and variant in ("wan2.1", "wan2.2"):
            # Only old releases take the seed from the config; later ones take it from the command line.
            old = {"seed": SEED, "mm_config": {"mm_type": old_class}}
            configs[f"old/{name}.json"] = common | old | _checkpoint_keys(variant)
    return configs


def run_script() -> str:
    """The text of `run_lightx2v.sh`, which lies beside the checkpoint's tensors and its folder of run configs."""
    return resources.files("vq_export.lightx2v").joinpath(RUN_SCRIPT).read_text(encoding="utf-8")


def _sampling_keys(variant: Variant, task: Task, sampling: Mapping[str, Any]) -> dict[str, Any]:
    usual = USUAL["ti2v" if variant == "wan2.2" else task, 2 if variant in EXPERTS else 1]
    said = {key: value for key, value in sampling.items() if value is not None}
    chosen = {**usual, **said}
    # A first scale that was said holds for both experts, unless a second one was said too.
    second = (said if "guidance_scale" in said else chosen).get("guidance_scale_2")
    scales = scales_of(chosen["guidance_scale"], second, transformers=2 if variant in EXPERTS else 1, where="this one")
    guided = is_guided(scales[0])
    return {
        "infer_steps": chosen["steps"],
        "target_video_length": chosen["num_frames"],
        # Image-to-video keeps the image's aspect: there only the area, height · width, counts.
        "target_height": chosen["height"],
        "target_width": chosen["width"],
        "sample_guide_scale": list(scales) if len(scales) > 1 else scales[0],
        "sample_shift": SHIFTS[variant, task] if guided else DISTILLED_SHIFT,
        # Off by default: without it the guidance scale is ignored.
        "enable_cfg": guided,
        "fps": chosen["fps"],
    }


def _model_keys(task: Task, variant: Variant) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "task": task,
        # The text is padded to so many tokens; LightX2V has no default.
        "text_len": 512,
        # Exact and without further packages; flash_attn3 or sage_attn2 are faster where installed.
        "self_attn_1_type": "torch_sdpa",
        "cross_attn_1_type": "torch_sdpa",
        "cross_attn_2_type": "torch_sdpa",
        # On by default, which requires k_img, v_img and img_emb of an image-to-video checkpoint; only 2.1's has them.
        "use_image_encoder": variant == "wan2.1" and task in ("i2v", "flf2v"),
        "cpu_offload": False,
    }
    if variant == "wan2.2":
        # The defaults are those of Wan 2.1's VAE: 16 channels, 4 · 8 · 8.
        keys |= {"num_channels_latents": 48, "vae_stride": [4, 16, 16]}
    return keys


def _class_keys(task: Task, variant: Variant, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The class that runs the model, and how it goes through the noise levels."""
    steps, shift = sampling["infer_steps"], sampling["sample_shift"]
    if sampling["enable_cfg"] or variant not in DISTILLED_CLASSES:
        return {"model_cls": variant} | ({"boundary": BOUNDARY[task]} if variant in EXPERTS else {})
    # Before the shift, evenly from the first timestep down.
    timesteps = [round(TRAIN_TIMESTEPS * (steps - step) / steps) for step in range(steps)]
    keys: dict[str, Any] = {"model_cls": DISTILLED_CLASSES[variant], "denoising_step_list": timesteps}
    if variant in EXPERTS:
        # The first step whose sigma, after the shift, is the low-noise expert's.
        sigmas = [shift * (step / TRAIN_TIMESTEPS) / (1 + (shift - 1) * step / TRAIN_TIMESTEPS) for step in timesteps]
        keys["boundary_step_index"] = sum(sigma >= BOUNDARY[task] for sigma in sigmas)
    return keys


def _checkpoint_keys(variant: Variant) -> dict[str, str]:
    if variant not in EXPERTS:
        return {"dit_quantized_ckpt": CHECKPOINT_PLACEHOLDER}
    # With dit_quantized_ckpt both experts would load the same weights: it takes precedence over these keys.
    return {
        "high_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/high_noise_model",
        "low_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/low_noise_model",
    }
