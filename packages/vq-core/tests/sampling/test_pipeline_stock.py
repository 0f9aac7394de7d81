"""What every model makes of texts and files is what diffusers alone makes of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vq_core.media.images import open_image, size_of_area
from vq_core.media.video import read_video
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import VARIANTS, Variant

SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)

TinyModel = Callable[[Variant], Path]


def vace_inputs(sample: Sample, sampling: Sampling) -> dict[str, Any]:
    """What diffusers' own example hands to VACE: PIL frames, a mask for each, images."""
    assert sample.video is not None
    assert sample.mask is not None
    frames = [Image.fromarray(frame) for frame in read_video(sample.video)[: sampling.num_frames]]
    height, width = size_of_area(frames[0].size, sampling.height, sampling.width)
    size = (width, height)
    mask = open_image(sample.mask).convert("L").resize(size, Image.Resampling.NEAREST)
    return {
        "video": [frame.resize(size, Image.Resampling.BICUBIC) for frame in frames],
        "mask": [mask] * len(frames),
        "reference_images": [open_image(path) for path in sample.reference_images],
        "width": width,
        "height": height,
    }


def stock_video(model: Path, sample: Sample, sampling: Sampling, seed: int, *, last_image: bool) -> NDArray[np.uint8]:
    """The same video by diffusers alone: everything loaded, raw prompt and files in."""
    with silenced_libraries():
        pipeline = DiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    inputs: dict[str, Any] = {"height": sampling.height, "width": sampling.width}
    if pipeline.config.get("expand_timesteps"):
        pipeline = WanImageToVideoPipeline(**pipeline.components, expand_timesteps=True)
        pipeline.set_progress_bar_config(disable=True)
    if type(pipeline).__name__ == "WanImageToVideoPipeline":
        assert sample.image is not None
        multiple = 32 if pipeline.config.expand_timesteps else 16
        image = open_image(sample.image)
        height, width = size_of_area(image.size, sampling.height, sampling.width, multiple)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        inputs = {"image": image, "height": image.height, "width": image.width}
        if last_image:
            assert sample.last_image is not None
            inputs["last_image"] = ImageOps.fit(open_image(sample.last_image), image.size, Image.Resampling.BICUBIC)
    if type(pipeline).__name__ == "WanVACEPipeline":
        inputs = vace_inputs(sample, sampling)
    frames = pipeline(
        prompt=sample.prompt,
        negative_prompt=sample.negative_prompt,
        num_frames=sampling.num_frames,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        guidance_scale_2=sampling.guidance_scale_2,
        generator=torch.Generator().manual_seed(seed),
        output_type="pil",
        **inputs,
    ).frames[0]
    return np.stack([np.asarray(frame) for frame in frames])


@pytest.mark.parametrize("variant", VARIANTS)
def test_part_by_part_gives_the_video_of_the_whole(
    tiny_model: TinyModel, samples: list[Sample], variant: Variant
) -> None:
    sampling = replace(SAMPLING, guidance_scale_2=3.0 if variant.endswith("-2.2") else None)
    pipeline = VideoPipeline(str(tiny_model(variant)), "cpu")
    conditions = pipeline.encode(samples, sampling)
    video = pipeline.sample(conditions[1], sampling, seed=7)
    assert video.dtype == np.uint8
    last_image = variant in ("flf2v", "i2v-2.2")
    stock = stock_video(tiny_model(variant), samples[1], sampling, seed=7, last_image=last_image)
    assert np.array_equal(video, stock)


def test_images_keep_their_aspect_and_text_takes_the_size(tiny_model: TinyModel, samples: list[Sample]) -> None:
    def sizes(variant: Variant, sampling: Sampling, samples: list[Sample]) -> list[tuple[int, ...]]:
        pipeline = VideoPipeline(str(tiny_model(variant)), "cpu")
        return [pipeline.sample(it, sampling, 0).shape[1:3] for it in pipeline.encode(samples, sampling)]

    assert sizes("i2v", SAMPLING, samples) == [(64, 64), (48, 80)]
    assert sizes("t2v", replace(SAMPLING, width=96), samples[:1]) == [(64, 96)]


@pytest.mark.parametrize("given", [{}, {"video"}, {"reference_images"}])
def test_vace_needs_no_file_and_every_one_counts(tiny_model: TinyModel, samples: list[Sample], given: set[str]) -> None:
    pipeline = VideoPipeline(str(tiny_model("vace")), "cpu")
    sample = Sample(samples[0].prompt, **{key: getattr(samples[0], key) for key in given})
    videos = [pipeline.sample(it, SAMPLING, 0) for it in pipeline.encode([sample, samples[0]], SAMPLING)]
    assert videos[0].shape == videos[1].shape == (5, 64, 64, 3)
    assert not np.array_equal(*videos)


def test_first_and_last_frame_are_both_seen(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("flf2v")), "cpu")
    other = replace(samples[0], last_image=samples[1].last_image)
    conditions = pipeline.encode([samples[0], other], SAMPLING)
    first, second = (it.image_embeds for it in conditions)
    assert first is not None
    assert second is not None
    assert first.shape == second.shape == (2, 17, 48)
    assert torch.allclose(first[0], second[0])
    assert not torch.allclose(first[1], second[1])
