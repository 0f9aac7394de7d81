"""What the metrics have in common: videos of the world, with captions in its language."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_wan_tiny.captions import parse_caption
from vq_wan_tiny.grade import ShapeGrade, grade
from vq_wan_tiny.world import FRAMES, SIDE


class Clip(Protocol):
    """What is known of a video, see `vq_eval.metrics.Clip`."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """RGB `[frames, height, width, 3]`."""

    @property
    def prompt(self) -> str | None:
        """What it was to show."""

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The first frame it was to start from, RGB `[height, width, 3]`."""


def not_of_the_world(clip: Clip) -> str | None:
    """Why a clip cannot be graded; None where it can."""
    frames, height, width, _ = clip.frames.shape
    if (frames, height, width) != (FRAMES, SIDE, SIDE):
        return f"it grades wan-tiny's {FRAMES} frames of {SIDE}x{SIDE}, and the video has {frames} of {height}x{width}"
    if clip.prompt is None:
        return "its caption is not known: give the prompts with --prompts"
    try:
        parse_caption(clip.prompt)
    except VqError as error:
        return f"its caption is not one of wan-tiny's ({error})"
    return None


def shape_grades(clip: Clip) -> Sequence[ShapeGrade]:
    """The grades of the shapes that the caption names; they do not depend on the image."""
    if clip.prompt is None:
        raise ValueError("a clip without a caption is not to be graded")
    return grade(clip.frames, clip.prompt, clip.frames[0]).shapes
