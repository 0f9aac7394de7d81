"""Every Wan that diffusers can run takes the whole road, by default settings of its model where it has any."""

import json
from pathlib import Path
from typing import Any

import pytest

from strip import psnr
from variants.travel import command_of
from vq_core.artifacts.checkpoint import RUN_CONFIG_FOLDER, open_checkpoint
from vq_core.artifacts.stats import BRANCHES, open_stats
from vq_core.cli.options import SamplingOptions
from vq_core.cli.sampling import resolve_sampling
from vq_core.media.video import read_video
from vq_core.recipes.recipe import SamplingSettings
from vq_core.sampling.model_defaults import defaults_of
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import read_samples
from vq_core.testing.tiny_models import VARIANTS, Variant

SIZE = {"height": 64, "width": 64, "num_frames": 5}
STEPS = {"t2v-distilled": 4}  # its own
# What LightX2V calls each model, and what it needs to be told of it.
SHIFT = 3.0  # of every tiny model's scheduler, but for the distilled one's
RUN_CONFIGS: dict[Variant, dict[str, Any]] = {
    "t2v": {
        "sample_shift": SHIFT,
        "model_cls": "wan2.1",
        "task": "t2v",
        "enable_cfg": True,
        "use_image_encoder": False,
    },
    "i2v": {"sample_shift": SHIFT, "model_cls": "wan2.1", "task": "i2v", "use_image_encoder": True},
    "flf2v": {"sample_shift": SHIFT, "model_cls": "wan2.1", "task": "flf2v", "use_image_encoder": True},
    "vace": {"sample_shift": SHIFT, "model_cls": "wan2.1_vace", "task": "vace", "use_image_encoder": False},
    "t2v-2.2": {
        "sample_shift": SHIFT,
        "model_cls": "wan2.2_moe",
        "task": "t2v",
        "boundary": 0.875,
        "use_image_encoder": False,
    },
    "i2v-2.2": {
        "sample_shift": SHIFT,
        "model_cls": "wan2.2_moe",
        "task": "i2v",
        "boundary": 0.9,
        "use_image_encoder": False,
    },
    "ti2v-5b": {"model_cls": "wan2.2", "task": "t2v", "num_channels_latents": 48, "vae_stride": [4, 16, 16]},
    "t2v-distilled": {
        "model_cls": "wan2.1_distill",
        "task": "t2v",
        "enable_cfg": False,
        "sample_shift": 5.0,
        "infer_steps": 4,
        "denoising_step_list": [1000, 750, 500, 250],
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_whole_road(run: Any, tiny_model: Any, one_prompt: Path, tmp_path: Path, variant: Variant) -> None:
    model, steps = tiny_model(variant), STEPS.get(variant, 2)
    said = [] if variant in STEPS else ["--steps", steps]
    size = [word for key, value in SIZE.items() for word in (f"--{key.replace('_', '-')}", value)]
    stats, weights, qparams, checkpoint = (tmp_path / name for name in ("stats", "smoothed", "qparams", "ckpt"))
    run("vq-calib collect", "--model", model, "--prompts", one_prompt, "-o", stats, *said, *size, "--device", "cpu")
    run("vq-algos smooth", "--model", model, "--stats", stats, "-o", weights)
    run("vq-algos quantize", "--weights", weights, "--scheme", "int8", "-o", qparams)
    run("vq-export lightx2v", "--weights", weights, "--qparams", qparams, "-o", checkpoint)
    verified = run("vq-export verify", checkpoint, "--model", model)
    assert verified["problems"] == []
    assert min(snr for linears in verified["weight_snr_db"].values() for snr in linears.values()) > 25
    run_config = json.loads((checkpoint / RUN_CONFIG_FOLDER / "int8-vllm.json").read_text())
    assert run_config | RUN_CONFIGS[variant] == run_config

    command, texts_and_files = command_of(variant, one_prompt)
    run(
        command, "--model", model, "--checkpoint", checkpoint, *texts_and_files, "-o", tmp_path / "video.mkv",
        *said, *size, "--device", "cpu",
    )  # fmt: skip
    pipeline = VideoPipeline(str(model), "cpu")
    asked = SamplingOptions(steps=steps, **SIZE)
    sampling = resolve_sampling(asked, SamplingSettings(), defaults_of(str(model)))
    full = pipeline.sample(pipeline.encode(read_samples(one_prompt, pipeline.inputs), sampling)[0], sampling, seed=42)
    assert 20 < psnr(read_video(tmp_path / "video.mkv"), full) < 60  # close to the model, and not the model

    branches = {"cond", "uncond"} if sampling.guided else {"cond"}
    opened = open_stats(stats)
    for component in open_checkpoint(checkpoint).components:
        counts = opened.group(component, opened.groups(component)[0]).count.sum(dim=0)
        assert {name for name, count in zip(BRANCHES, counts.tolist(), strict=True) if count} == branches
