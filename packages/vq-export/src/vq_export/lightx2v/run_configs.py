"""What LightX2V needs to run a converted checkpoint: one run config per kernel backend, and a script that starts it.

LightX2V merges, each over the one before: its defaults, the command line, the run config, the model's config.json,
the quantized checkpoint's config.json. Releases before October 2025 name the backend in `mm_config` ("old" here),
later ones in `dit_quant_scheme`.

Every value is the model's own: what its files or its calibration said (`vq_core.sampling.told_by_files`), else what its
authors' code has for a published Wan of its kind, which `notes` tells.

A model that is sampled without guidance is a distilled one: LightX2V has classes for these, which take Euler steps
through a list of timesteps. The other classes take UniPC steps.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, cast

from vq_core.artifacts.checkpoint import CHECKPOINT_PLACEHOLDER
from vq_core.artifacts.lightx2v_kernels import probe
from vq_core.errors import VqError
from vq_core.families.wan.kinds import Kind
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

# What distilled models of every task were trained with.
DISTILLED_SHIFT = 5.0
# Classes for distilled models; the other variants run few steps without guidance in their usual class.
DISTILLED_CLASSES: Mapping[Variant, str] = {"wan2.1": "wan2.1_distill", "wan2.2_moe": "wan2.2_moe_distill"}
TRAIN_TIMESTEPS = 1000
SEED = 42


def variant_and_task(kind: Kind) -> tuple[Variant, Task]:
    """LightX2V's name of a model and what it makes.

    TI2V-5B makes videos from text and from images: it counts as t2v here, and the script makes it i2v when an image is
    given. In the same way the script makes Wan 2.2's i2v flf2v when a last frame is given.
    """
    if kind.model_type == "vace":
        return ("wan2.2_moe_vace" if kind.experts == 2 else "wan2.1_vace"), "vace"
    if kind.model_type == "ti2v":
        return "wan2.2", "t2v"
    task = cast(Task, kind.model_type)
    return ("wan2.2_moe" if kind.experts == 2 else "wan2.1"), task


def run_configs(
    kind: Kind, scheme: QuantScheme, sampling: Mapping[str, Any], *, gains: bool
) -> dict[str, dict[str, Any]]:
    """Run configs by file name: `int8-vllm.json` for LightX2V now, `old/int8-vllm.json` for releases with `mm_config`.

    `sampling` has the model's settings, by the names of a recipe's `eval` and of `vq_core.sampling.told_by_files`.
    `gains` says whether the checkpoint has `affine_norm` tensors. Old releases read both experts of Wan 2.2 from one
    folder when a config names it, and quantize the projections between VACE's two stacks: these models have no old
    configs.

    Raises:
        VqError: `sampling` has a second guidance scale for a model with one transformer, or a scheduler without shift.
    """
    variant, task = variant_and_task(kind)
    chosen = _sampling_keys(kind, sampling)
    common = chosen | _model_keys(kind, task, sampling) | _class_keys(kind, variant, chosen, sampling)
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
                # Queries and keys are normalized in fp32, as the model has it: 0.4 dB closer to it in INT8. Releases
                # from 2026 on read the key, and those before ignore it. SENSITIVE_LAYER_DTYPE=FP32 gains as much, but
                # no more with this, and keeps every modulation table and what it multiplies in fp32.
                "rms_norm_type": "fp32_variance",
            }
            | _checkpoint_keys(kind)
        )
        if old_class is not None and variant in ("wan2.1", "wan2.2"):
            # Only old releases take the seed from the config; later ones take it from the command line.
            old = {"seed": SEED, "mm_config": {"mm_type": old_class}}
            configs[f"old/{name}.json"] = common | old | _checkpoint_keys(kind)
    return configs


def notes(kind: Kind, sampling: Mapping[str, Any]) -> dict[str, str]:
    """What the run configs were made from, for the summary: which Wan, and what no file of the model says."""
    keys = _sampling_keys(kind, sampling)
    found = {"model": str(kind)}
    if kind.experts == 1 and kind.model_type == "t2v" and "flow_shift" not in sampling:
        found["model"] += "; one expert of Wan2.2 T2V looks the same: if it is one, give the folder that holds both"
    if "flow_shift" not in sampling:
        whose = f"authors of {kind.name}" if keys["enable_cfg"] else "makers of distilled models"
        found["shift"] = f"{keys['sample_shift']:g}, as the {whose} have it: the model's files do not say one for this"
    elif not keys["enable_cfg"] and keys["sample_shift"] != DISTILLED_SHIFT:
        found["shift"] = (
            f"{keys['sample_shift']:g}, as the model's scheduler has it: most distilled models are trained at "
            f"{DISTILLED_SHIFT:g}, so calibrate with that in scheduler_config.json if this one is"
        )
    if kind.boundary_ratio is not None and "boundary_ratio" not in sampling:
        found["boundary"] = f"{kind.boundary_ratio:g}, as the authors of {kind.name} have it: no file says one"
    return found


def run_script() -> str:
    """The text of `run_lightx2v.sh`, which lies beside the checkpoint's tensors and its folder of run configs."""
    script = resources.files("vq_export.lightx2v").joinpath(RUN_SCRIPT).read_text(encoding="utf-8")
    return script.replace("PROBE\n", f"{probe()}\n", 1)


def _sampling_keys(kind: Kind, sampling: Mapping[str, Any]) -> dict[str, Any]:
    usual = USUAL[kind.model_type, kind.experts]
    said = {key: value for key, value in sampling.items() if value is not None}
    chosen = {**usual, **said}
    # A first scale that was said holds for both experts, unless a second one was said too.
    second = (said if "guidance_scale" in said else chosen).get("guidance_scale_2")
    scales = scales_of(chosen["guidance_scale"], second, transformers=kind.experts, where="this one")
    guided = is_guided(scales[0])
    return {
        "infer_steps": chosen["steps"],
        "target_video_length": chosen["num_frames"],
        # Image-to-video keeps the image's aspect: there only the area, height · width, counts.
        "target_height": chosen["height"],
        "target_width": chosen["width"],
        "sample_guide_scale": list(scales) if len(scales) > 1 else scales[0],
        "sample_shift": _shift(kind, sampling, chosen, guided),
        # Off by default: without it the guidance scale is ignored.
        "enable_cfg": guided,
        "fps": chosen["fps"],
    }


def _shift(kind: Kind, sampling: Mapping[str, Any], chosen: Mapping[str, Any], guided: bool) -> float:
    if "flow_shift" not in sampling:
        return kind.shift_for(chosen["height"], chosen["width"]) if guided else DISTILLED_SHIFT
    if sampling["flow_shift"] is None:
        raise VqError(
            "The model's scheduler/scheduler_config.json says no flow_shift, and LightX2V needs one: "
            "add the one that the model was trained with."
        )
    return float(sampling["flow_shift"])


def _model_keys(kind: Kind, task: Task, sampling: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": task,
        # The text is padded to so many tokens; LightX2V has no default.
        "text_len": 512,
        # Exact and without further packages; flash_attn3 or sage_attn2 are faster where installed.
        "self_attn_1_type": "torch_sdpa",
        "cross_attn_1_type": "torch_sdpa",
        "cross_attn_2_type": "torch_sdpa",
        # On by default, which requires k_img, v_img and img_emb of an image-to-video checkpoint; only 2.1's has them.
        "use_image_encoder": kind.image_encoder,
        "cpu_offload": False,
        # The defaults are those of Wan 2.1's VAE.
        "num_channels_latents": kind.out_channels,
        "vae_stride": list(sampling.get("vae_stride", kind.vae_stride)),
    }


def _class_keys(kind: Kind, variant: Variant, chosen: Mapping[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The class that runs the model, and how it goes through the noise levels."""
    steps, shift = chosen["infer_steps"], chosen["sample_shift"]
    boundary = None if kind.experts == 1 else sampling.get("boundary_ratio", kind.boundary_ratio)
    if chosen["enable_cfg"] or variant not in DISTILLED_CLASSES:
        return {"model_cls": variant} | ({} if boundary is None else {"boundary": boundary})
    # Before the shift, evenly from the first timestep down.
    timesteps = [round(TRAIN_TIMESTEPS * (steps - step) / steps) for step in range(steps)]
    keys: dict[str, Any] = {"model_cls": DISTILLED_CLASSES[variant], "denoising_step_list": timesteps}
    if boundary is not None:
        # The first step whose sigma, after the shift, is the low-noise expert's.
        sigmas = [shift * (step / TRAIN_TIMESTEPS) / (1 + (shift - 1) * step / TRAIN_TIMESTEPS) for step in timesteps]
        keys["boundary_step_index"] = sum(sigma >= boundary for sigma in sigmas)
    return keys


def _checkpoint_keys(kind: Kind) -> dict[str, str]:
    if kind.experts == 1:
        return {"dit_quantized_ckpt": CHECKPOINT_PLACEHOLDER}
    # With dit_quantized_ckpt both experts would load the same weights: it takes precedence over these keys.
    return {
        "high_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/high_noise_model",
        "low_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/low_noise_model",
    }
