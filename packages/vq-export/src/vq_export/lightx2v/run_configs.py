"""What LightX2V needs to run a converted checkpoint: one run config per kernel backend, and a script that starts it.

LightX2V merges, each over the one before: its defaults, the command line, the run config, the model's config.json,
the quantized checkpoint's config.json. Releases before October 2025 name the backend in `mm_config` ("old" here),
later ones in `dit_quant_scheme`.

A model that is sampled without guidance is a distilled one: LightX2V runs it by Euler through a list of timesteps, in
classes of their own, where the others take UniPC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class RunSettings:
    """How LightX2V samples. Sizes in pixels; `shift` is the flow-matching timestep shift.

    guidance_scales: of the only transformer, or of the high-noise and the low-noise expert.
    """

    steps: int
    height: int
    width: int
    num_frames: int
    fps: int
    guidance_scales: tuple[float, ...]
    shift: float
    seed: int = 42

    @property
    def distilled(self) -> bool:
        """Whether guidance is left out, because a distilled model has it built in."""
        return not is_guided(self.guidance_scales[0])

    @property
    def denoising_steps(self) -> list[int]:
        """Timesteps before the shift, of 1000, at which a distilled model is called: evenly from the first down."""
        return [round(TRAIN_TIMESTEPS * (self.steps - step) / self.steps) for step in range(self.steps)]


TRAIN_TIMESTEPS = 1000


def _usual(model_type: str, experts: int, shift: float) -> RunSettings:
    said = USUAL[model_type, experts]
    plain = {key: said[key] for key in ("steps", "height", "width", "num_frames", "fps")}
    scales = (said["guidance_scale"], said.get("guidance_scale_2", said["guidance_scale"]))
    return RunSettings(**plain, guidance_scales=scales[:experts], shift=shift)


# What the model authors' own code uses.
DEFAULT_SETTINGS: Mapping[tuple[Variant, Task], RunSettings] = {
    ("wan2.1", "i2v"): _usual("i2v", 1, shift=3.0),
    ("wan2.1", "t2v"): _usual("t2v", 1, shift=5.0),
    ("wan2.1", "flf2v"): _usual("flf2v", 1, shift=16.0),
    ("wan2.1_vace", "vace"): _usual("vace", 1, shift=16.0),
    ("wan2.2_moe_vace", "vace"): _usual("vace", 2, shift=8.0),
    ("wan2.2_moe", "i2v"): _usual("i2v", 2, shift=5.0),
    ("wan2.2_moe", "t2v"): _usual("t2v", 2, shift=12.0),
    ("wan2.2", "i2v"): _usual("ti2v", 1, shift=5.0),
    ("wan2.2", "t2v"): _usual("ti2v", 1, shift=5.0),
}
# What distilled models were trained with, whatever they make.
DISTILLED_SHIFT = 5.0
# Classes for distilled models; the others run few steps without guidance in the class that they have.
DISTILLED_CLASSES: Mapping[Variant, str] = {"wan2.1": "wan2.1_distill", "wan2.2_moe": "wan2.2_moe_distill"}
# Share of the trajectory, in sigma, below which the low-noise expert takes over.
BOUNDARY: Mapping[Task, float] = {"i2v": 0.9, "t2v": 0.875, "vace": 0.9}
EXPERTS = ("wan2.2_moe", "wan2.2_moe_vace")


def variant_and_task(native_config: Mapping[str, Any], experts: int) -> tuple[Variant, Task]:
    """LightX2V's name of a model and what it makes, from its native config and the number of its transformers.

    TI2V-5B (48 latent channels) makes videos from text and from images; it counts as t2v here and the script goes by
    whether an image is given. So it does with Wan 2.2's i2v, which takes a last frame too.
    """
    model_type = native_config["model_type"]
    if model_type == "vace":
        return ("wan2.2_moe_vace" if experts == 2 else "wan2.1_vace"), "vace"
    task: Task = model_type if model_type in ("i2v", "flf2v") else "t2v"
    if experts == 2:
        return "wan2.2_moe", task
    return ("wan2.2" if native_config["in_dim"] == 48 else "wan2.1"), task


def run_settings(variant: Variant, task: Task, said: Mapping[str, Any]) -> RunSettings:
    """The settings of the model's authors with what was `said` in their place, by the names of a recipe's `eval`.

    Raises:
        VqError: a second guidance scale was said for a model with one transformer.
    """
    settings = DEFAULT_SETTINGS[variant, task]
    plain = {key: said[key] for key in ("steps", "height", "width", "num_frames", "fps") if said.get(key) is not None}
    first, second = said.get("guidance_scale"), said.get("guidance_scale_2")
    if first is not None or second is not None:
        scales = scales_of(
            settings.guidance_scales[0] if first is None else first,
            second,
            transformers=len(settings.guidance_scales),
            where="this one",
        )
        plain["guidance_scales"] = scales
    settings = replace(settings, **plain)
    return replace(settings, shift=DISTILLED_SHIFT) if settings.distilled else settings


def run_configs(
    task: Task,
    variant: Variant,
    scheme: QuantScheme,
    *,
    gains: bool,
    settings: RunSettings | None = None,
) -> dict[str, dict[str, Any]]:
    """Run configs by file name: `int8-vllm.json` for LightX2V now, `old/int8-vllm.json` for releases with `mm_config`.

    `gains` says whether the checkpoint has `affine_norm` tensors. Old releases read both experts of Wan 2.2 from one
    folder when a config names it, and quantize what stands between VACE's two stacks: these have no old configs.
    """
    chosen = settings or DEFAULT_SETTINGS[variant, task]
    common = _sampling_keys(chosen) | _model_keys(task, variant) | _class_keys(task, variant, chosen)
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
            old = {"seed": chosen.seed, "mm_config": {"mm_type": old_class}}
            configs[f"old/{name}.json"] = common | old | _checkpoint_keys(variant)
    return configs


def run_script() -> str:
    """The text of `run_lightx2v.sh`, which belongs beside the checkpoint and its folder of run configs."""
    return resources.files("vq_export.lightx2v").joinpath(RUN_SCRIPT).read_text(encoding="utf-8")


def _sampling_keys(settings: RunSettings) -> dict[str, Any]:
    scales = list(settings.guidance_scales)
    return {
        "infer_steps": settings.steps,
        "target_video_length": settings.num_frames,
        # Image-to-video keeps the image's aspect: there only the area, height · width, counts.
        "target_height": settings.height,
        "target_width": settings.width,
        "sample_guide_scale": scales if len(scales) > 1 else scales[0],
        "sample_shift": settings.shift,
        # Off by default: without it the guidance scale is ignored.
        "enable_cfg": not settings.distilled,
        "fps": settings.fps,
    }


def _model_keys(task: Task, variant: Variant) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "task": task,
        # Tokens that the text is padded to; indexed without a default.
        "text_len": 512,
        # Exact and without further packages; flash_attn3 or sage_attn2 are faster where installed.
        "self_attn_1_type": "torch_sdpa",
        "cross_attn_1_type": "torch_sdpa",
        "cross_attn_2_type": "torch_sdpa",
        # On by default, and then every image-to-video checkpoint must have k_img, v_img and img_emb; only 2.1's does.
        "use_image_encoder": variant == "wan2.1" and task in ("i2v", "flf2v"),
        "cpu_offload": False,
    }
    if variant == "wan2.2":
        # The defaults are those of Wan 2.1's VAE: 16 channels, 4 · 8 · 8.
        keys |= {"num_channels_latents": 48, "vae_stride": [4, 16, 16]}
    return keys


def _class_keys(task: Task, variant: Variant, settings: RunSettings) -> dict[str, Any]:
    """The class that runs the model, and how it goes through the noise levels."""
    if not (settings.distilled and variant in DISTILLED_CLASSES):
        return {"model_cls": variant} | ({"boundary": BOUNDARY[task]} if variant in EXPERTS else {})
    steps, shift = settings.denoising_steps, settings.shift
    keys: dict[str, Any] = {"model_cls": DISTILLED_CLASSES[variant], "denoising_step_list": steps}
    if variant in EXPERTS:
        # The first step whose sigma, after the shift, is the low-noise expert's.
        sigmas = [shift * (step / TRAIN_TIMESTEPS) / (1 + (shift - 1) * step / TRAIN_TIMESTEPS) for step in steps]
        keys["boundary_step_index"] = sum(sigma >= BOUNDARY[task] for sigma in sigmas)
    return keys


def _checkpoint_keys(variant: Variant) -> dict[str, str]:
    if variant not in EXPERTS:
        return {"dit_quantized_ckpt": CHECKPOINT_PLACEHOLDER}
    # Not dit_quantized_ckpt as well: it takes precedence in each expert, and both would load the same weights.
    return {
        "high_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/high_noise_model",
        "low_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/low_noise_model",
    }
