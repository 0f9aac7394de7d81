"""Share of a clip's shapes that move at the speed that the caption says: still, slow or quick."""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from vq_wan_tiny.metrics._graded import Clip, not_of_the_world, shape_grades

LABEL = "Speed"
ORDER = 81
UNIT = ""
DIGITS = 3
HIGHER_IS_BETTER = True
COMPARES = False
PER: Literal["video"] = "video"
MEANING = "share of wan-tiny's shapes that go at the speed that the caption says; of the video alone"


def missing() -> None:
    """Never: the grader is always there."""


def unsuited(clip: Clip) -> str | None:
    """Where the clip is not from wan-tiny's world."""
    return not_of_the_world(clip)


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """The share of the candidate, one figure; the reference is of no account."""
    return [fmean(shape.speed for shape in shape_grades(candidate))]


def over_video(figures: Sequence[float]) -> float:
    """The figure itself."""
    (figure,) = figures
    return figure
