"""The grade as metrics: what the grader says of a clip, and why one cannot be graded."""

import math
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from vq_wan_tiny.metrics import direction, first_frame, speed
from vq_wan_tiny.prompts import draw_clips

MODULES = {"wan_tiny_direction": direction, "wan_tiny_speed": speed, "wan_tiny_first_frame": first_frame}


@dataclass(frozen=True)
class Clip:
    frames: NDArray[np.uint8]
    prompt: str | None
    image: NDArray[np.uint8] | None
    path: Path = Path("000.mkv")
    device: str = "cpu"


@pytest.fixture(scope="module")
def real() -> Clip:
    """A clip of the world, right by construction."""
    ((caption, frames),) = draw_clips(1, 5, held_out=True)
    return Clip(frames, caption, frames[0])


@pytest.fixture(params=MODULES)
def metric(request: pytest.FixtureRequest) -> ModuleType:
    return MODULES[request.param]


def _figure(metric: ModuleType, clip: Clip) -> float:
    figure: float = metric.over_video(metric.measure(clip, clip))
    return figure


def test_they_are_found_by_their_names() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="vq_eval.metrics") if "wan_tiny" in entry.name}
    assert found == MODULES


def test_a_real_clip_is_right(metric: ModuleType, real: Clip) -> None:
    assert metric.missing() is None
    assert metric.unsuited(real) is None
    assert _figure(metric, real) == (math.inf if metric is first_frame else 1.0)


def test_a_clip_that_stands_still_goes_the_wrong_way(real: Clip) -> None:
    still = replace(real, frames=np.repeat(real.frames[:1], len(real.frames), axis=0))
    assert _figure(direction, still) < 1
    assert _figure(speed, still) < 1
    assert _figure(first_frame, still) == math.inf


def test_another_first_frame_has_its_psnr(real: Clip) -> None:
    image = real.frames[0] ^ 16
    error = np.square(real.frames[0].astype(float) - image).mean()
    assert _figure(first_frame, replace(real, image=image)) == pytest.approx(10 * math.log10(255**2 / error))


def test_a_clip_of_another_size_is_not_graded(metric: ModuleType, real: Clip) -> None:
    reason = metric.unsuited(replace(real, frames=real.frames[:9]))
    assert reason == "it grades wan-tiny's 17 frames of 96x96, and the video has 9 of 96x96"


def test_without_its_caption_a_clip_is_not_graded(metric: ModuleType, real: Clip) -> None:
    assert "its caption is not known" in metric.unsuited(replace(real, prompt=None))
    assert "its caption is not one of wan-tiny's" in metric.unsuited(replace(real, prompt="a boat on the sea"))


def test_without_its_image_a_clip_has_no_figure_of_its_first_frame(real: Clip) -> None:
    assert "the image it was to start from is not known" in (first_frame.unsuited(replace(real, image=None)) or "")
    small = replace(real, image=real.frames[0, :48, :48])
    assert "has 48x48 pixels, unlike the clip" in (first_frame.unsuited(small) or "")
    assert direction.unsuited(replace(real, image=None)) is None
