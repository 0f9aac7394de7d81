"""Did the clip do what its caption says? Grades by measurement, because in wan-tiny's world the truth is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_wan_tiny.captions import Claim, Claims, parse_caption
from vq_wan_tiny.tracking import Track, ground_db, track_shape
from vq_wan_tiny.world import (
    DIRECTIONS,
    FRAMES,
    QUICK_PIXELS,
    SIDE,
    SIZE_RATIOS,
    SLOW_PIXELS,
    STILL,
    TURN,
    pan_way,
    way,
)

STILL_PIXELS = SLOW_PIXELS / 2  # a shorter way is standing still
QUICK_FROM_PIXELS = (SLOW_PIXELS + QUICK_PIXELS) / 2
GROUND_DB = 20.0  # the background is where it should be, and still itself
FIRST_FRAME_DB = 25.0


@dataclass(frozen=True)
class ShapeGrade:
    """One shape that the caption names. A shape that is lost on the way has everything wrong.

    Attributes:
        name: such as `red circle`.
        direction: whether it moved in the direction of the caption (nearest of eight), or stood still if told to.
        speed: whether it moved at the speed of the caption (nearest of standing still, slow, quick).
        turning: whether it turned if the caption says so, and only then.
        sizing: whether it grew, shrank or kept its size as the caption says.
        miss: distance between where it should be at the end and where it is, pixels; NaN if it is lost.
    """

    name: str
    direction: bool
    speed: bool
    turning: bool
    sizing: bool
    miss: float


@dataclass(frozen=True)
class Grade:
    """The grades of one clip.

    Attributes:
        shapes: one grade per shape named in the caption.
        background: whether the ground is itself throughout, still, or panning as the caption says.
        first_frame_db: PSNR of the first frame against the image the clip was to start from; infinite if equal.
    """

    shapes: tuple[ShapeGrade, ...]
    background: bool
    first_frame_db: float

    @property
    def first_frame(self) -> bool:
        """Whether the first frame is the image: 25 dB or more."""
        return self.first_frame_db >= FIRST_FRAME_DB


def grade(frames: NDArray[np.uint8], caption: str, image: NDArray[np.uint8]) -> Grade:
    """Grade the clip `frames` [17, 96, 96, 3] that was made from `caption` and the first frame `image` [96, 96, 3].

    Raises:
        VqError: the caption is not in the world's language, or frames or image have another shape.
    """
    claims = parse_caption(caption)
    if frames.shape != (FRAMES, SIDE, SIDE, 3) or image.shape != frames.shape[1:]:
        raise VqError(
            f"a clip of {len(frames)} frames of {'x'.join(map(str, frames.shape[1:3]))} from an image of "
            f"{'x'.join(map(str, image.shape[:2]))} cannot be graded: wan-tiny's world is {FRAMES} frames of "
            f"{SIDE}x{SIDE}."
        )
    ground = ground_db(frames)
    error = np.square(frames[0].astype(np.float64) - image).mean() / 255**2
    return Grade(
        shapes=tuple(_grade_shape(claim, claims, frames) for claim in claims.shapes),
        background=ground[claims.pan] == max(ground) and max(ground) >= GROUND_DB,
        first_frame_db=-10 * math.log10(error) if error else math.inf,
    )


def _grade_shape(claim: Claim, claims: Claims, frames: NDArray[np.uint8]) -> ShapeGrade:
    track = track_shape(frames, claim.colour, claim.kind)
    if track is None:
        return ShapeGrade(claim.name, False, False, False, False, math.nan)
    ground = pan_way(torch.tensor(claims.pan)).tolist()
    x, y = track.way[0] - ground[0], track.way[1] - ground[1]
    direction, quick = _movement(x, y)
    told = way(torch.tensor(claim.direction), torch.tensor(claim.quick)).tolist()
    return ShapeGrade(
        name=claim.name,
        direction=direction == claim.direction,
        speed=(direction == STILL) == (claim.direction == STILL) and quick == claim.quick,
        turning=(track.turn > TURN / 2) == claim.turning,
        sizing=_sizing(track) == claim.sizing,
        miss=math.hypot(x - told[0], y - told[1]),
    )


def _movement(x: float, y: float) -> tuple[int, bool]:
    """Direction as in `Scenes`, and whether it is quick."""
    pixels = math.hypot(x, y)
    if pixels < STILL_PIXELS:
        return STILL, False
    return round(math.atan2(y, x) / (math.pi / 4)) % len(DIRECTIONS), pixels > QUICK_FROM_PIXELS


def _sizing(track: Track) -> int:
    """`SAME_SIZE`, `GROWING` or `SHRINKING`, whichever explains the growth best."""
    misses = [abs(math.log(track.growth) - 2 * math.log(ratio)) for ratio in SIZE_RATIOS]
    return misses.index(min(misses))


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % confidence interval, over clips."""

    value: float
    low: float
    high: float


def shares(grades: Sequence[Grade], seed: int = 0) -> dict[str, Share]:
    """Share of shapes right in direction, speed, turning and sizing, and of clips right in first frame and background.

    Intervals are bootstrapped over whole clips, because shapes in one clip fail together.
    """
    right: dict[str, list[list[bool]]] = {
        name: [[getattr(shape, name) for shape in clip.shapes] for clip in grades]
        for name in ("direction", "speed", "turning", "sizing")
    }
    right |= {name: [[getattr(clip, name)] for clip in grades] for name in ("first_frame", "background")}
    picks = np.random.default_rng(seed).integers(len(grades), size=(2000, len(grades)))
    result = {}
    for name, answers in right.items():
        hits = np.array([sum(clip) for clip in answers])
        asked = np.array([len(clip) for clip in answers])
        low, high = np.percentile(hits[picks].sum(1) / asked[picks].sum(1), (2.5, 97.5))
        result[name] = Share(float(hits.sum() / asked.sum()), float(low), float(high))
    return result
