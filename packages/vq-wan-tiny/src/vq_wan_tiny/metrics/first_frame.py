"""PSNR of a clip's first frame against the image that it starts from, in dB.

`vq-wan-tiny grade` calls a first frame right from 25 dB on.
"""

from collections.abc import Sequence
from typing import Literal

from vq_wan_tiny.grade import grade
from vq_wan_tiny.metrics._graded import Clip, not_of_the_world

LABEL = "First frame"
ORDER = 82
UNIT = "dB"
DIGITS = 2
HIGHER_IS_BETTER = True
COMPARES = False
PER: Literal["video"] = "video"
MEANING = "PSNR of the first frame against the image that the clip was to start from; of the video alone"


def missing() -> None:
    """Never: the grader is always there."""


def unsuited(clip: Clip) -> str | None:
    """Where the clip is not from wan-tiny's world, or its image is not known."""
    if reason := not_of_the_world(clip):
        return reason
    if clip.image is None:
        return "the image it was to start from is not known: give the prompts with --prompts"
    if clip.image.shape != clip.frames.shape[1:]:
        height, width, _ = clip.image.shape
        return f"the image it was to start from has {height}x{width} pixels, unlike the clip"
    return None


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """dB of the candidate, one figure, infinite where both are equal; the reference is of no account."""
    if candidate.prompt is None or candidate.image is None:
        raise ValueError("a clip without caption and image is not to be graded")
    return [grade(candidate.frames, candidate.prompt, candidate.image).first_frame_db]


def over_video(figures: Sequence[float]) -> float:
    """The figure itself."""
    (figure,) = figures
    return figure
