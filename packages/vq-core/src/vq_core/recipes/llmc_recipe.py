"""Reading LLMC's YAML for Wan into the settings of our recipe."""

import logging
from pathlib import Path

from vq_core.numerics.scheme import Rounding
from vq_core.recipes.ignored import IgnoreRule
from vq_core.recipes.llmc_schema import Calib, Eval, IgnoredLayers, LlmcRecipe, Sampling, VideoGen
from vq_core.recipes.typed_yaml import unheeded, validated

logger = logging.getLogger("vq_core.recipes.recipe")

# LLMC never passes a step count, so diffusers' default holds for calibration and evaluation.
DIFFUSERS_STEPS = 50
# LLMC's default while it calibrates Wan2.2; its evaluation leaves the second scale to the pipeline.
WAN22_LOW_NOISE_GUIDANCE = 3.0

VARIANTS = {"pretrain": "full", "transformed": "smoothed", "fake_quant": "fake-quant", "fake_quant_wo_kv": "fake-quant"}


def is_llmc(document: dict[str, object]) -> bool:
    """Whether the top-level keys are those of LLMC's schema."""
    return not document.keys().isdisjoint({"base", "quant", "save"})


def from_llmc(document: dict[str, object], path: Path) -> dict[str, object]:
    """The settings of `document`, LLMC's YAML read from `path`, in the keys of our recipe.

    A key that the file leaves out gets LLMC's default. Paths stay as they are, relative to the working directory, as
    LLMC has it. The keys without effect here are named in one warning.

    Raises:
        VqError: an unknown key, a wrong type, or a setting that LightX2V cannot run.
    """
    llmc = validated(LlmcRecipe, document, path)
    if ignored := [f"`{key}` ({reason})" for key, reason in _without_effect(llmc)]:
        logger.warning("%s: without effect here: %s.", path, "; ".join(ignored))
    settings: dict[str, object] = {
        "model": llmc.model.diffusers_path or llmc.model.path,
        "seed": llmc.base.seed,
        **_quantization(llmc.quant.video_gen),
    }
    if llmc.model.lora_path is not None:
        settings["lora"] = [{"path": llmc.model.lora_path}]
    if llmc.ignored_layers is not None:
        settings["ignored"] = _ignored(llmc.ignored_layers)
    if llmc.save is not None:
        settings["output"] = llmc.save.save_path
    if llmc.calib is not None:
        settings["calib"] = _sampling(llmc.calib) | _calibration(llmc.calib, llmc.model.type)
    if llmc.eval is not None:
        settings["eval"] = _sampling(llmc.eval) | _evaluation(llmc.eval)
    return settings


def _quantization(video_gen: VideoGen) -> dict[str, object]:
    is_float = video_gen.weight.bit == "e4m3"
    special = video_gen.special
    smooth: dict[str, object] = {"method": "none"}
    if video_gen.method == "SmoothQuant":
        smooth = {"method": "smoothquant", "alpha": special.alpha, "groups": "llmc"}
    elif video_gen.method == "Awq" and special.trans:
        smooth = {"method": "awq", "awq_version": special.trans_version, "groups": "llmc"}
    clips = video_gen.method == "Awq" and special.weight_clip
    # LLMC rounds integers to even whatever `use_qtorch` says.
    rounding = Rounding.QTORCH if is_float and video_gen.weight.use_qtorch else Rounding.NEAREST_EVEN
    return {
        "scheme": "fp8" if is_float else "int8",
        "smooth": smooth,
        "quantize": {"method": "clip" if clips else "rtn", "rounding": rounding},
    }


def _ignored(section: IgnoredLayers) -> tuple[dict[str, object], ...]:
    """The rules that `section` means: `layer_names` are for `block_ids` alone, `special_names` for the other blocks."""
    if not section.block_ids:
        rules, blocks = [], set[int]()
    else:
        rule = IgnoreRule(blocks=tuple(section.block_ids), linears=tuple(section.layer_names))
        rules, blocks = [rule], rule.block_numbers()
    for name in section.special_names:
        _, block, linear = name.split(".", 2)
        if int(block) not in blocks:
            rules.append(IgnoreRule(blocks=(int(block),), linears=(linear,)))
    return tuple(rule.model_dump() for rule in rules)


def _sampling(section: Sampling) -> dict[str, object]:
    return {
        "prompts": section.path,
        "steps": DIFFUSERS_STEPS,
        "height": section.target_height,
        "width": section.target_width,
        "num_frames": section.num_frames,
        "guidance_scale": section.guidance_scale,
        "guidance_scale_2": section.guidance_scale_2,
    }


def _calibration(section: Calib, model_type: str) -> dict[str, object]:
    settings: dict[str, object] = {"seed": section.seed}
    if model_type == "Wan2T2V" and section.guidance_scale_2 is None:
        settings["guidance_scale_2"] = WAN22_LOW_NOISE_GUIDANCE
    return settings


def _evaluation(section: Eval) -> dict[str, object]:
    variants = tuple(dict.fromkeys(VARIANTS[position] for position in section.eval_pos))
    return {"fps": section.fps, "variants": variants or None, "output": section.output_video_path}


def _without_effect(llmc: LlmcRecipe) -> list[tuple[str, str]]:
    keys = list(unheeded(llmc))
    video_gen = llmc.quant.video_gen
    for key, method in (("alpha", "SmoothQuant"), ("trans", "Awq"), ("trans_version", "Awq"), ("weight_clip", "Awq")):
        if key in video_gen.special.model_fields_set and video_gen.method != method:
            keys.append((f"quant.video_gen.special.{key}", f"only {method} reads it"))
    if llmc.ignored_layers is not None and llmc.ignored_layers.layer_names and not llmc.ignored_layers.block_ids:
        keys.append(("ignored_layers.layer_names", "LLMC reads it only with block_ids"))
    if llmc.eval is not None and not llmc.eval.eval_pos:
        keys.append(("eval.eval_pos", "videos are made whenever `vq-eval fake-quant` is run"))
    if llmc.eval is not None and "fake_quant_wo_kv" in llmc.eval.eval_pos:
        keys.append(("fake_quant_wo_kv", "Wan has no KV cache, so it is fake-quant"))
    return keys
