"""Outlines and colours of the shapes in wan-tiny's world."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")  # 60° of hue apart, from 0°
KINDS = ("circle", "square", "triangle", "star", "cross")
FOLDS = (0, 4, 3, 5, 4)  # rotational symmetry of each kind; a circle's cannot be seen
OUTLINE_ANGLES = 360


def outlines() -> Tensor:
    """Distance of each kind's edge from its centre, by angle, relative to the circle of equal area: [kinds, 360]."""
    angles = torch.arange(OUTLINE_ANGLES, dtype=torch.float64) * (2 * math.pi / OUTLINE_ANGLES)
    table = torch.stack([edge(angles) for edge in _EDGES])
    return (table / table.square().mean(dim=1, keepdim=True).sqrt()).float()


def _polygon(corners: int) -> Callable[[Tensor], Tensor]:
    def edge(angle: Tensor) -> Tensor:
        sector = 2 * math.pi / corners
        return 1 / torch.cos(torch.remainder(angle, sector) - sector / 2)

    return edge


def _star(angle: Tensor) -> Tensor:
    """Five straight-edged points: the edge from the point (distance 1) to the notch (distance 0.45), mirrored."""
    half_sector, notch = math.pi / 5, 0.45
    within = (torch.remainder(angle, 2 * half_sector) - half_sector).abs()  # 0 at a notch, half a sector at a point
    within = half_sector - within
    across = notch * math.sin(half_sector)
    along = 1 - notch * math.cos(half_sector)
    return across / (across * torch.cos(within) + along * torch.sin(within))


def _cross(angle: Tensor) -> Tensor:
    """Two bars, three times as long as wide."""
    near, far = torch.stack((torch.cos(angle).abs(), torch.sin(angle).abs())).sort(dim=0).values
    half_width = 1 / 3
    return torch.where(near <= half_width * far, 1 / far, half_width / near.clamp_min(1e-9))


_EDGES = (torch.ones_like, _polygon(4), _polygon(3), _star, _cross)
