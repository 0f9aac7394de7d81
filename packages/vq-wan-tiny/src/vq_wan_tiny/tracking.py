"""Measure what moves in a clip of wan-tiny's world: its coloured shapes, one by one, and the ground below them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vq_wan_tiny.shapes import COLOURS, FOLDS
from vq_wan_tiny.world import FRAMES, PANS, SIDE, pan_way

LOST_PIXELS = 20.0  # area below which a shape is not there
VISIBLE = 0.8  # share of the area expected in a frame from which its centre is trusted
GROUND_SATURATION = 0.4  # shapes are above, the ground is below
SHADOW_REACH = 6  # pixels around a shape that are not taken for ground


@dataclass(frozen=True)
class Track:
    """How a shape moved in a clip.

    Attributes:
        way: of its centre on the screen, pixels (x, y), by a straight line through the frames in which it is visible.
        turn: radians clockwise; 0 for a circle.
        growth: area at the end over area at the start.
    """

    way: tuple[float, float]
    turn: float
    growth: float


def track_shape(frames: NDArray[np.uint8], colour: int, kind: int) -> Track | None:
    """Follow the shape of `colour` through `frames` [17, 96, 96, 3]; None if it is missing at the start or the end."""
    weights = _colour_weights(_rgb(frames), colour)
    area, centre = _centres(weights)
    first, last = area[:2].mean(), area[-2:].mean()
    if min(first, last) < LOST_PIXELS:
        return None
    time = torch.linspace(0, 1, FRAMES)
    expected = (first.sqrt() + (last.sqrt() - first.sqrt()) * time).square()
    seen = area >= VISIBLE * expected
    return Track(
        way=(_slope(time[seen], centre[seen, 0]), _slope(time[seen], centre[seen, 1])),
        turn=_turn(weights[seen], centre[seen], time[seen], FOLDS[kind]),
        growth=float(last / first),
    )


def ground_db(frames: NDArray[np.uint8]) -> list[float]:
    """How well the background of `frames` [17, 96, 96, 3] goes where each of `PANS` would take it.

    Returns:
        For each pan the PSNR in dB of the middle and the last frame against the first one moved there, over what is
        ground in both; minus infinity if nothing is.
    """
    first, *later = _rgb(frames[[0, FRAMES // 2, FRAMES - 1]])
    ground, *later_ground = _ground(torch.stack((first, *later)))
    fits = []
    for pan in range(len(PANS)):
        error, pixels = 0.0, 0.0
        for share, frame, frame_ground in zip((0.5, 1.0), later, later_ground, strict=True):
            x, y = (round(pixel * share) for pixel in pan_way(torch.tensor(pan)).tolist())
            now = (slice(max(y, 0), SIDE + min(y, 0)), slice(max(x, 0), SIDE + min(x, 0)))
            before = (slice(max(-y, 0), SIDE + min(-y, 0)), slice(max(-x, 0), SIDE + min(-x, 0)))
            both = ground[before] & frame_ground[now]
            error += float((first[before] - frame[now])[both].square().sum())
            pixels += 3 * float(both.sum())
        fits.append(-10 * math.log10(max(error, 1e-10) / pixels) if pixels else -math.inf)
    return fits


def _ground(rgb: Tensor) -> Tensor:
    """Where neither a shape nor most of its shadow is: bool [frames, 96, 96]."""
    highest, lowest = rgb.amax(-1), rgb.amin(-1)
    vivid = ((highest - lowest) / highest.clamp_min(0.1) > GROUND_SATURATION).float()
    return functional.max_pool2d(vivid[:, None], 2 * SHADOW_REACH + 1, stride=1, padding=SHADOW_REACH)[:, 0] == 0


def _rgb(frames: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).float() / 255


def _colour_weights(rgb: Tensor, colour: int) -> Tensor:
    """How surely each pixel belongs to the shape of `colour`, 0..1: [frames, 96, 96]."""
    highest, lowest = rgb.amax(-1), rgb.amin(-1)
    chroma = highest - lowest
    saturation = chroma / highest.clamp_min(1e-3)
    red, green, blue = rgb.unbind(-1)
    hue = torch.rad2deg(torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue))
    off = (hue - colour * 360 / len(COLOURS) + 180) % 360 - 180
    vivid = ((saturation - GROUND_SATURATION) / 0.2).clamp(0, 1) * ((highest - 0.15) / 0.1).clamp(0, 1)
    return vivid * (off.abs() < 180 / len(COLOURS))


def _centres(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Area [frames] and centre (x, y) [frames, 2] of the largest patch of weights, fringes elsewhere left out."""
    axis = torch.arange(SIDE) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    rows, columns = weights.sum(2), weights.sum(1)
    centre = torch.stack((_median(columns), _median(rows)), dim=-1)
    area = weights.sum((1, 2))
    for _ in range(2):
        reach = 2.0 * (area / math.pi).sqrt() + 2
        distance = torch.hypot(x - centre[:, 0, None, None], y - centre[:, 1, None, None])
        near = weights * (distance < reach[:, None, None])
        area = near.sum((1, 2))
        centre = torch.stack([(near * along).sum((1, 2)) for along in (x, y)], dim=-1) / area.clamp_min(1e-6)[:, None]
    return area, centre


def _median(profile: Tensor) -> Tensor:
    share = profile.cumsum(1) / profile.sum(1, keepdim=True).clamp_min(1e-6)
    return (share < 0.5).sum(1).float() + 0.5


def _slope(time: Tensor, value: Tensor) -> float:
    """Least-squares change of `value` over the whole clip."""
    if len(time) < 2:
        return 0.0
    time = time - time.mean()
    return float((time * (value - value.mean())).sum() / time.square().sum())


def _turn(weights: Tensor, centre: Tensor, time: Tensor, fold: int) -> float:
    """Rotation over the clip, radians, from the phase of the angular moment that the shape's symmetry leaves."""
    if fold == 0:
        return 0.0
    axis = torch.arange(SIDE) + 0.5
    x = axis[None, None, :] - centre[:, 0, None, None]
    y = axis[None, :, None] - centre[:, 1, None, None]
    radius = torch.hypot(x, y)
    near = weights * (radius < 2.0 * (weights.sum((1, 2)) / math.pi).sqrt()[:, None, None] + 2)
    angle = fold * torch.atan2(y, x)
    moments = near * radius.pow(3)
    phase = torch.atan2((moments * angle.sin()).sum((1, 2)), (moments * angle.cos()).sum((1, 2)))
    return _slope(time, torch.from_numpy(np.unwrap(phase.numpy()))) / fold
