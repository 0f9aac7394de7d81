"""The pictures of a sample in the size of its video."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.video import read_video, write_video
from vq_core.sampling.frames import Frames, open_frames, size_of_frames
from vq_core.sampling.prompts import FILES, FIRST_FRAME, TEXT_ONLY, ModelInputs, Sample
from vq_core.sampling.settings import Sampling

SAMPLING = Sampling(height=64, width=96, num_frames=5)
ALL = ModelInputs(optional=FILES)


def test_text_takes_the_size_that_is_asked_for(samples: list[Sample]) -> None:
    assert open_frames(samples[0], TEXT_ONLY, SAMPLING, 16) == Frames(64, 96)
    assert open_frames(samples[0], TEXT_ONLY, SAMPLING, 16).ends == ()


def test_the_first_frame_gives_the_aspect(samples: list[Sample]) -> None:
    frames = open_frames(samples[1], FIRST_FRAME, SAMPLING, 16)  # 128 x 80 pixels
    assert (frames.height, frames.width) == (48, 96)
    assert [image.size for image in frames.ends] == [(96, 48)]
    assert frames.last_image is None


def test_the_last_frame_is_cut_to_the_size_of_the_first(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "first.png")
    last = Image.new("RGB", (192, 64), "black")
    last.paste("white", (64, 0, 128, 64))  # what is left when both sides are cut off
    last.save(tmp_path / "last.png")
    sample = Sample("p", image=tmp_path / "first.png", last_image=tmp_path / "last.png")
    frames = open_frames(sample, ALL, replace(SAMPLING, width=64), 16)
    assert frames.last_image is not None
    assert frames.last_image.size == (64, 64)
    assert (np.asarray(frames.last_image)[:, 2:-2] == 255).all()
    assert frames.ends == (frames.image, frames.last_image)


def test_a_video_gives_the_aspect_and_as_many_frames_as_are_made(samples: list[Sample]) -> None:
    sample = replace(samples[1], image=None)
    frames = open_frames(sample, ALL, SAMPLING, 16)
    assert (frames.height, frames.width) == (48, 96)
    assert [image.size for image in frames.video] == [(96, 48)] * 5
    assert sample.video is not None
    fourth = Image.fromarray(read_video(sample.video)[4]).resize((96, 48), Image.Resampling.BICUBIC)
    assert frames.video[4] == fourth
    # One image is the mask of every frame: its right half is white.
    assert [(mask.size, mask.mode) for mask in frames.mask] == [((96, 48), "L")] * 5
    assert np.array_equal(np.asarray(frames.mask[0]) == 255, np.arange(96)[None].repeat(48, 0) >= 48)


def test_a_mask_may_be_a_video(samples: list[Sample], tmp_path: Path) -> None:
    moving = np.zeros((5, 48, 96, 3), np.uint8)
    moving[3] = 255
    write_video(tmp_path / "mask.mkv", moving, fps=8)
    sample = replace(samples[1], image=None, mask=tmp_path / "mask.mkv")
    frames = open_frames(sample, ALL, SAMPLING, 16)
    assert [np.asarray(mask).mean() for mask in frames.mask] == [0, 0, 0, 255, 0]


def test_reference_images_keep_their_size(samples: list[Sample]) -> None:
    assert [image.size for image in open_frames(samples[0], ALL, SAMPLING, 16).reference_images] == [(128, 80)]


@pytest.mark.parametrize(("size", "refused"), [((15, 4000), True), ((16, 4000), True), ((16, 600), False)])
def test_refuses_a_reference_of_which_nothing_would_be_left(
    samples: list[Sample], tmp_path: Path, size: tuple[int, int], refused: bool
) -> None:
    Image.new("RGB", size).save(tmp_path / "narrow.png")
    sample = replace(samples[0], reference_images=(tmp_path / "narrow.png",))
    sentence = rf"narrow\.png has {size[0]}x{size[1]} pixels, too few on one side for a reference"
    with pytest.raises(VqError, match=sentence) if refused else nullcontext():
        size_of_frames(sample, ALL, SAMPLING, 16)


def test_refuses_a_video_that_is_too_short(samples: list[Sample]) -> None:
    with pytest.raises(VqError, match="has 17 frames, and the video to be made over it 21: give a longer one or lower"):
        open_frames(samples[0], ALL, replace(SAMPLING, num_frames=21), 16)
