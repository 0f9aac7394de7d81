"""Grades as `vq-eval compare` finds and takes them."""

import math
from dataclasses import dataclass, replace
from importlib.metadata import entry_points

import numpy as np
import pytest
from numpy.typing import NDArray

from vq_wan_tiny.metrics import DIRECTION, FIRST_FRAME, SPEED, GradeMetric
from vq_wan_tiny.prompts import draw_clips

METRICS = {"direction": DIRECTION, "speed": SPEED, "first_frame": FIRST_FRAME}


@dataclass(frozen=True)
class Clip:
    """What `vq_eval.metrics.Clip` has, of which the package knows nothing."""

    frames: NDArray[np.uint8]
    prompt: str | None
    image: NDArray[np.uint8] | None


@pytest.fixture(scope="module")
def real_clip() -> Clip:
    """A clip of the world, right by construction."""
    ((caption, frames),) = draw_clips(1, 5, held_out=True)
    return Clip(frames, caption, frames[0])


def figure(metric: GradeMetric, clip: Clip) -> float:
    return metric.over_video(metric.measure(clip, clip))


@pytest.mark.parametrize("name", METRICS)
def test_it_is_found_by_its_name_and_takes_a_real_clip(name: str, real_clip: Clip) -> None:
    (entry,) = entry_points(group="vq_eval.metrics", name=f"wan_tiny_{name}")
    assert entry.load() is METRICS[name]
    assert METRICS[name].missing() is None
    assert METRICS[name].unsuited(real_clip) is None


@pytest.mark.parametrize("metric", [DIRECTION, SPEED], ids=["direction", "speed"])
def test_a_real_clip_is_right_and_a_still_one_wrong(metric: GradeMetric, real_clip: Clip) -> None:
    still = replace(real_clip, frames=np.repeat(real_clip.frames[:1], len(real_clip.frames), axis=0))
    assert metric.over_video(metric.measure(still, real_clip)) == 1
    assert metric.over_video(metric.measure(real_clip, still)) < 1
    assert figure(metric, replace(real_clip, image=None)) == 1


def test_the_first_frame_has_its_psnr_against_the_image(real_clip: Clip) -> None:
    assert figure(FIRST_FRAME, real_clip) == math.inf
    image = real_clip.frames[0] ^ 16
    error = np.square(real_clip.frames[0].astype(float) - image).mean()
    assert figure(FIRST_FRAME, replace(real_clip, image=image)) == pytest.approx(10 * math.log10(255**2 / error))


@pytest.mark.parametrize(
    ("metrics", "change", "reason"),
    [
        ((DIRECTION, FIRST_FRAME), {"frames": 9}, "wan-tiny's 17 frames of 96x96, and the video has 9 of 96x96"),
        ((DIRECTION, FIRST_FRAME), {"prompt": None}, "its caption is not known: give the prompts with --prompts"),
        ((DIRECTION, FIRST_FRAME), {"prompt": "a boat on the sea"}, "its caption is not one of wan-tiny's ("),
        ((FIRST_FRAME,), {"image": None}, "the image it was to start from is not known: give the prompts"),
        ((FIRST_FRAME,), {"image": 48}, "the image it was to start from has 48x96 pixels, unlike the clip"),
    ],
)
def test_a_clip_that_cannot_be_graded_is_unsuited(
    metrics: tuple[GradeMetric, ...], change: dict[str, object], reason: str, real_clip: Clip
) -> None:
    """A number stands for the first so many frames or rows."""
    parts = {name: getattr(real_clip, name)[:it] if isinstance(it, int) else it for name, it in change.items()}
    for metric in metrics:
        assert reason in (metric.unsuited(replace(real_clip, **parts)) or "")


@pytest.mark.parametrize(("metric", "lacks"), [(SPEED, "prompt"), (FIRST_FRAME, "prompt"), (FIRST_FRAME, "image")])
def test_a_clip_without_caption_or_image_is_an_error(metric: GradeMetric, lacks: str, real_clip: Clip) -> None:
    with pytest.raises(ValueError, match="without its caption or image"):
        figure(metric, replace(real_clip, **{lacks: None}))
