"""The grade as metrics of `vq-eval compare`, found through the entry points `vq_eval.metrics`.

Each fulfils `vq_eval.metrics.Metric`, which is not imported: packages meet in what they offer. A grade compares with no
other video, so that full precision has one too, and what quantization costs is the difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_wan_tiny.captions import parse_caption
from vq_wan_tiny.grade import Grade, grade
from vq_wan_tiny.world import FRAMES, SIDE


class Clip(Protocol):
    """A video and what is known of it, see `vq_eval.metrics.Clip`."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """RGB `[frames, height, width, 3]`."""

    @property
    def prompt(self) -> str | None:
        """Its caption."""

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The first frame it was to start from, RGB `[height, width, 3]`."""


@dataclass(frozen=True)
class GradeMetric:
    """One figure of a clip's grade; the fields in capitals are those of `vq_eval.metrics.Metric`."""

    LABEL: str
    ORDER: int
    MEANING: str
    figure: Callable[[Grade], float]
    needs_image: bool = False
    UNIT: str = ""
    DIGITS: int = 3
    HIGHER_IS_BETTER: ClassVar = True
    COMPARES: ClassVar = False
    PER: ClassVar[Literal["video"]] = "video"

    def missing(self) -> None:
        """Never: the grader is always there."""

    def unsuited(self, clip: Clip) -> str | None:
        """Why a clip cannot be graded; None where it can."""
        frames, height, width, _ = clip.frames.shape
        if (frames, height, width) != (FRAMES, SIDE, SIDE):
            here = f"{frames} of {height}x{width}"
            return f"it grades wan-tiny's {FRAMES} frames of {SIDE}x{SIDE}, and the video has {here}"
        if clip.prompt is None:
            return "its caption is not known: give the prompts with --prompts"
        try:
            parse_caption(clip.prompt)
        except VqError as error:
            return f"its caption is not one of wan-tiny's ({error})"
        if not self.needs_image:
            return None
        if clip.image is None:
            return "the image it was to start from is not known: give the prompts with --prompts"
        if clip.image.shape != clip.frames.shape[1:]:
            height, width, _ = clip.image.shape
            return f"the image it was to start from has {height}x{width} pixels, unlike the clip"
        return None

    def measure(self, reference: Clip, candidate: Clip) -> list[float]:
        """The figure of the candidate; the reference is not looked at."""
        image = candidate.image if self.needs_image else candidate.frames[0]
        if candidate.prompt is None or image is None:
            raise ValueError("a clip without its caption or image cannot be graded")
        return [self.figure(grade(candidate.frames, candidate.prompt, image))]

    def over_video(self, figures: Sequence[float]) -> float:
        """The figure itself."""
        (figure,) = figures
        return figure


DIRECTION = GradeMetric(
    "Direction",
    80,
    "share of wan-tiny's shapes that move in the direction that the caption says; of the video alone",
    lambda found: fmean(shape.direction for shape in found.shapes),
)
SPEED = GradeMetric(
    "Speed",
    81,
    "share of wan-tiny's shapes that move at the speed that the caption says; of the video alone",
    lambda found: fmean(shape.speed for shape in found.shapes),
)
# `vq-wan-tiny grade` calls a first frame right from 25 dB on.
FIRST_FRAME = GradeMetric(
    "First frame",
    82,
    "PSNR of the first frame against the image that the clip was to start from; of the video alone",
    lambda found: found.first_frame_db,
    needs_image=True,
    UNIT="dB",
    DIGITS=2,
)
