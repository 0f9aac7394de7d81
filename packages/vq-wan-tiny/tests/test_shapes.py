"""Outlines against the corners of the polygons that they trace."""

import math

import pytest
import torch
from torch import Tensor

from vq_wan_tiny.shapes import COLOURS, FOLDS, KINDS, OUTLINE_ANGLES, outlines


def polar(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


CROSS = [(3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1), (-1, -3), (1, -3), (1, -1), (3, -1)]
CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [polar(1, 90 * corner) for corner in range(4)],
    "triangle": [polar(1, 120 * corner) for corner in range(3)],
    "star": [polar(0.45 if corner % 2 else 1, 36 * corner) for corner in range(10)],
    "cross": [(float(x), float(y)) for x, y in CROSS],
}


def points(kind: int) -> Tensor:
    angles = torch.arange(OUTLINE_ANGLES, dtype=torch.float64) * (2 * math.pi / OUTLINE_ANGLES)
    return torch.stack((torch.cos(angles), torch.sin(angles)), dim=1) * outlines()[kind].double()[:, None]


def shoelace(corners: Tensor) -> float:
    (x, y), (next_x, next_y) = corners.T, corners.roll(-1, 0).T
    return float((x * next_y - next_x * y).sum() / 2)


def distance_to_edges(point: Tensor, corners: Tensor) -> Tensor:
    """Distance of points [P, 2] to the nearest side of the polygon [C, 2]."""
    side = corners.roll(-1, 0) - corners
    offset = point[:, None] - corners
    along = ((offset * side).sum(-1) / side.square().sum(-1)).clamp(0, 1)
    return (offset - along[..., None] * side).norm(dim=-1).amin(dim=1)


def test_every_colour_and_kind_has_a_name_and_every_kind_its_symmetry() -> None:
    assert len(set(COLOURS)) == len(COLOURS) == 6
    assert len(set(KINDS)) == len(KINDS) == len(FOLDS) == len(outlines())


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_area_is_that_of_the_unit_circle(kind: int) -> None:
    assert shoelace(points(kind)) == pytest.approx(math.pi, rel=5e-3)


@pytest.mark.parametrize("kind", range(1, len(KINDS)), ids=KINDS[1:])
def test_outline_runs_along_the_polygon(kind: int) -> None:
    corners = torch.tensor(CORNERS[KINDS[kind]], dtype=torch.float64)
    corners = corners * (math.pi / shoelace(corners)) ** 0.5
    assert float(distance_to_edges(points(kind), corners).max()) < 2e-3


def test_circle_is_round() -> None:
    torch.testing.assert_close(outlines()[0], torch.ones(OUTLINE_ANGLES))


@pytest.mark.parametrize("kind", range(1, len(KINDS)), ids=KINDS[1:])
def test_smallest_turn_that_leaves_a_shape_as_it_is_is_that_of_its_symmetry(kind: int) -> None:
    outline = outlines()[kind]
    same = [turn for turn in range(1, OUTLINE_ANGLES) if torch.allclose(outline.roll(turn), outline, atol=1e-4)]
    assert same[0] == OUTLINE_ANGLES // FOLDS[kind]
