"""wan-tiny's world: what can happen in a clip, and clips drawn from it by a seed.

Two to four shapes of different colours stand or move over a textured, lit background, each in its own direction and at
its own speed; some turn, grow or shrink; they may pass behind one another, in the order in which they are named; in a
quarter of the clips the camera pans. Every (colour, kind, direction) with (colour + 2·kind + direction) mod 9 = 0 is
held out: training never draws it, and held-out clips hold nothing else.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from vq_wan_tiny.shapes import COLOURS, KINDS

SIDE = 96  # pixels
FRAMES = 17
MAX_SHAPES = 4
DIRECTIONS = ("right", "down and right", "down", "down and left", "left", "up and left", "up", "up and right")
STILL = len(DIRECTIONS)
SLOW_PIXELS, QUICK_PIXELS = 10.0, 26.0  # way in a clip, over the background
PANS = ("", "left", "right", "up", "down")
PAN_PIXELS = 14.0
SAME_SIZE, GROWING, SHRINKING = range(3)
SIZE_RATIOS = (1.0, 1.5, 0.65)  # radius at the end over that at the start
TURN = math.pi / 2  # in a clip, clockwise
MIN_RADIUS, MAX_RADIUS = 7.0, 13.5  # pixels, of the circle of equal area, at any time
WAVES = 6
_PLACINGS = 96  # tries to place a clip's shapes at once, so that none touches another at the start or the end


@dataclass(frozen=True)
class Scenes:
    """N clips, described; every field is a tensor with N as its first dimension. Shapes are ordered from back to front.

    Attributes:
        count: shapes in the clip; the slots behind are unused [N].
        colour: index into `COLOURS` [N, 4].
        kind: index into `KINDS` [N, 4].
        direction: index into `DIRECTIONS`, or `STILL` [N, 4].
        quick: whether the way is 26 and not 10 pixels [N, 4].
        turning: whether it turns by a quarter [N, 4].
        sizing: `SAME_SIZE`, `GROWING` or `SHRINKING` [N, 4].
        radius: at the start, pixels [N, 4].
        angle: at the start, radians [N, 4].
        start: centre in the first frame, pixels (x, y) [N, 4, 2].
        pan: index into `PANS` [N].
        tint: hue jitter in degrees, saturation and value of each shape [N, 4, 3].
        ground: colour in the middle of the background's range, RGB in 0..1 [N, 3].
        relief: how the background's colour changes with its pattern, RGB [N, 3].
        pattern: 0 blobs, 1 stripes, 2 checks [N].
        waves: wave vectors of the pattern, radians per pixel [N, 6, 2].
        phases: of the waves, radians [N, 6].
        light: brightness gradient over the background, per pixel (x, y) [N, 2].
    """

    count: Tensor
    colour: Tensor
    kind: Tensor
    direction: Tensor
    quick: Tensor
    turning: Tensor
    sizing: Tensor
    radius: Tensor
    angle: Tensor
    start: Tensor
    pan: Tensor
    tint: Tensor
    ground: Tensor
    relief: Tensor
    pattern: Tensor
    waves: Tensor
    phases: Tensor
    light: Tensor

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, index: slice | Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def present(self) -> Tensor:
        """Which of the four slots hold a shape, bool [N, 4]."""
        return torch.arange(MAX_SHAPES, device=self.count.device) < self.count[:, None]


def way(direction: Tensor, quick: Tensor) -> Tensor:
    """Movement of a shape over the background in a clip, pixels (x, y) [..., 2]."""
    angle = direction * (math.pi / 4)
    pixels = torch.where(quick, QUICK_PIXELS, SLOW_PIXELS) * (direction != STILL)
    return torch.stack((torch.cos(angle), torch.sin(angle)), dim=-1) * pixels[..., None]


def pan_way(pan: Tensor) -> Tensor:
    """Movement of the background on the screen in a clip, pixels (x, y) [..., 2]: against the camera."""
    ways = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float32, device=pan.device)
    return ways[pan] * PAN_PIXELS


def size_ratio(sizing: Tensor) -> Tensor:
    """Radius at the end over that at the start."""
    return torch.tensor(SIZE_RATIOS, device=sizing.device)[sizing]


def draw_scenes(count: int, generator: torch.Generator, *, held_out: bool = False) -> Scenes:
    """Draw `count` clips on the generator's device; the same seed draws the same clips there.

    Args:
        count: number of clips.
        generator: source of randomness.
        held_out: draw only combinations that training never sees, instead of only the others.
    """
    draw = _Draw(count, generator)
    colour = draw.uniform(len(COLOURS)).argsort(dim=1)[:, :MAX_SHAPES]
    kind = draw.integer(len(KINDS), MAX_SHAPES)
    remainder = torch.zeros_like(kind) if held_out else 1 + draw.integer(8, MAX_SHAPES)
    direction = (remainder - colour - 2 * kind) % 9
    quick = draw.integer(2, MAX_SHAPES) == 1
    sizing = draw.choice((0.6, 0.2, 0.2), MAX_SHAPES)
    turning = (draw.uniform(MAX_SHAPES) < 0.35) & (kind != 0)
    ratio = size_ratio(sizing)
    lowest, highest = MIN_RADIUS / ratio.clamp_max(1), MAX_RADIUS / ratio.clamp_min(1)
    radius = lowest + (highest - lowest) * draw.uniform(MAX_SHAPES)
    pan = draw.choice((0.76, 0.06, 0.06, 0.06, 0.06))
    shape_count = 2 + draw.choice((0.4, 0.35, 0.25))
    shift = way(direction, quick) + pan_way(pan)[:, None]
    return Scenes(
        count=shape_count,
        colour=colour,
        kind=kind,
        direction=direction,
        quick=quick,
        turning=turning,
        sizing=sizing,
        radius=radius,
        angle=draw.uniform(MAX_SHAPES) * (2 * math.pi),
        start=_place(draw, shape_count, radius, ratio, shift),
        pan=pan,
        tint=draw.between((-6.0, 0.85, 0.85), (6.0, 1.0, 1.0), MAX_SHAPES),
        **_background(draw),
    )


def _place(draw: "_Draw", count: Tensor, radius: Tensor, ratio: Tensor, shift: Tensor) -> Tensor:
    """Starts [N, 4, 2] at which no shape leaves the picture or touches another, at the start and at the end.

    Of the placings that fit, half of the clips take the one with the closest encounter on the way, so that shapes pass
    behind one another more often than by chance.
    """
    end_radius = radius * ratio
    first = torch.maximum(radius[..., None], end_radius[..., None] - shift)
    last = torch.minimum(SIDE - radius[..., None], SIDE - end_radius[..., None] - shift)
    share = draw.uniform(_PLACINGS, MAX_SHAPES, 2)
    start = first[:, None] + (last - first)[:, None] * share  # [N, placings, 4, 2]
    a, b = torch.triu_indices(MAX_SHAPES, MAX_SHAPES, 1, device=count.device)
    absent = (b >= count[:, None])[:, None]  # pairs are ordered, so the later shape decides
    offset = start[:, :, a] - start[:, :, b]
    drift = (shift[:, a] - shift[:, b])[:, None]
    gap_at_start = offset.norm(dim=-1) - 1.2 * (radius[:, a] + radius[:, b])[:, None]
    gap_at_end = (offset + drift).norm(dim=-1) - 1.2 * (end_radius[:, a] + end_radius[:, b])[:, None]
    gap = torch.minimum(gap_at_start, gap_at_end).masked_fill(absent, math.inf).amin(dim=-1)
    nearest = (-(offset * drift).sum(-1) / drift.square().sum(-1).clamp_min(1e-6)).clamp(0, 1)
    encounter = (offset + nearest[..., None] * drift).norm(dim=-1).masked_fill(absent, math.inf).amin(dim=-1)
    wants_encounter = (draw.uniform(1) < 0.5)[:, 0]
    order = torch.where(wants_encounter[:, None], -encounter, draw.uniform(_PLACINGS))
    best = torch.where(gap >= 0, order + 1e4, gap.clamp_min(-1e4)).argmax(dim=1)
    return start[torch.arange(len(count), device=count.device), best]


def _background(draw: "_Draw") -> dict[str, Tensor]:
    """A greyish ground with blobs, stripes or checks, none finer than 14 pixels, lit from one side."""
    pattern = draw.choice((0.5, 0.25, 0.25))
    blobs = (2 * math.pi / draw.between((18.0,), (48.0,), WAVES)) * _unit(draw.uniform(WAVES) * (2 * math.pi))
    ruler = (2 * math.pi / draw.between((15.0,), (28.0,))) * _unit(draw.uniform(1)[:, 0] * (2 * math.pi))
    across = torch.stack((-ruler[:, 1], ruler[:, 0]), dim=-1)
    waves = blobs.clone()
    waves[:, 0] = torch.where((pattern > 0)[:, None], ruler, blobs[:, 0])
    waves[:, 1] = torch.where((pattern == 2)[:, None], across, blobs[:, 1])
    grey = draw.between((0.35,), (0.65,))
    contrast = draw.between((0.08,), (0.16,))
    return {
        "ground": grey + draw.between((-0.04,) * 3, (0.04,) * 3),
        "relief": contrast + draw.between((-0.025,) * 3, (0.025,) * 3),
        "pattern": pattern,
        "waves": waves,
        "phases": draw.uniform(WAVES) * (2 * math.pi),
        "light": _unit(draw.uniform(1)[:, 0] * (2 * math.pi)) * draw.between((0.0,), (0.5 / SIDE,)),
    }


def _unit(angle: Tensor) -> Tensor:
    return torch.stack((torch.cos(angle), torch.sin(angle)), dim=-1)


class _Draw:
    """Random numbers for `count` clips at once."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self._count = count
        self._generator = generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand((self._count, *shape), generator=self._generator, device=self._generator.device)

    def integer(self, below: int, *shape: int) -> Tensor:
        return (self.uniform(*shape) * below).long().clamp_max(below - 1)

    def choice(self, shares: tuple[float, ...], *shape: int) -> Tensor:
        """Index i with probability shares[i]."""
        edges = torch.tensor(shares, device=self._generator.device).cumsum(0)[:-1]
        return torch.bucketize(self.uniform(*shape), edges)

    def between(self, low: tuple[float, ...], high: tuple[float, ...], *shape: int) -> Tensor:
        lowest, highest = (torch.tensor(edge, device=self._generator.device) for edge in (low, high))
        return lowest + (highest - lowest) * self.uniform(*shape, len(low))
