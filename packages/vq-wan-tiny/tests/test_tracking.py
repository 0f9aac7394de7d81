"""Measurements of rendered clips against the scenes that they were rendered from."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vq_wan_tiny.render import render_frames
from vq_wan_tiny.shapes import COLOURS, KINDS
from vq_wan_tiny.tracking import ground_db, track_shape
from vq_wan_tiny.world import (
    DIRECTIONS,
    FRAMES,
    GROWING,
    PANS,
    SAME_SIZE,
    SHRINKING,
    SIDE,
    SIZE_RATIOS,
    STILL,
    TURN,
    Scenes,
    draw_scenes,
    way,
)

SceneOf = Callable[..., Scenes]


def track(scene: Scenes, slot: int = 0) -> Any:
    found = track_shape(render_frames(scene)[0], int(scene.colour[0, slot]), int(scene.kind[0, slot]))
    assert found is not None
    return found


@pytest.mark.parametrize("direction", range(STILL + 1), ids=[*DIRECTIONS, "still"])
def test_way_is_measured_to_half_a_pixel(scene_of: SceneOf, direction: int) -> None:
    for quick in (False, True):
        found = track(scene_of({"direction": direction, "quick": quick, "colour": direction % 6}))
        assert math.dist(found.way, way(torch.tensor(direction), torch.tensor(quick)).tolist()) < 0.5


def test_way_is_measured_on_the_screen(scene_of: SceneOf) -> None:
    found = track(scene_of({"direction": 0}, pan=PANS.index("down")))
    assert math.dist(found.way, (10, -14)) < 0.5


@pytest.mark.parametrize("kind", range(1, len(KINDS)), ids=KINDS[1:])
@pytest.mark.parametrize("turning", [False, True])
def test_turn_is_measured(scene_of: SceneOf, kind: int, turning: bool) -> None:
    found = track(scene_of({"kind": kind, "turning": turning, "direction": 4}))
    assert found.turn == pytest.approx(TURN if turning else 0.0, abs=0.1)


def test_turn_of_a_circle_is_nothing(scene_of: SceneOf) -> None:
    assert track(scene_of({"turning": True})).turn == 0


@pytest.mark.parametrize("sizing", [SAME_SIZE, GROWING, SHRINKING])
def test_growth_is_that_of_the_area(scene_of: SceneOf, sizing: int) -> None:
    found = track(scene_of({"sizing": sizing, "radius": 9.0, "kind": 2}))
    assert found.growth == pytest.approx(SIZE_RATIOS[sizing] ** 2, rel=0.15)


def test_way_behind_another_shape_is_bridged(scene_of: SceneOf) -> None:
    behind = {"direction": 0, "quick": True, "start": (35.0, 48.0), "radius": 7.0, "colour": 0}
    found = track(scene_of(behind, {"start": (48.0, 59.0), "radius": 7.0, "colour": 3}))
    assert math.dist(found.way, (26, 0)) < 2


def test_shape_that_is_not_there_is_lost(scene_of: SceneOf) -> None:
    assert track_shape(render_frames(scene_of({"colour": 0}))[0], 3, 0) is None


@pytest.mark.parametrize("half", [slice(0, FRAMES // 2), slice(FRAMES // 2, FRAMES)], ids=["start", "end"])
def test_shape_that_is_missing_at_the_start_or_the_end_is_lost(scene_of: SceneOf, half: slice) -> None:
    frames = render_frames(scene_of({"colour": 0}))[0]
    frames[half] = 128
    assert track_shape(frames, 0, 0) is None


@pytest.mark.parametrize("colour", range(len(COLOURS)), ids=COLOURS)
def test_each_colour_is_told_from_the_others(scene_of: SceneOf, colour: int) -> None:
    neighbours = (
        {"colour": (colour + 1) % 6, "start": (20.0, 20.0)},
        {"colour": (colour - 1) % 6, "start": (76.0, 20.0)},
    )
    found = track(scene_of({"colour": colour, "direction": 2, "start": (48.0, 60.0)}, *neighbours))
    assert math.dist(found.way, (0, 10)) < 0.7


@pytest.mark.parametrize("pan", range(len(PANS)))
def test_ground_fits_best_where_it_went(pan: int) -> None:
    scenes = draw_scenes(400, torch.Generator().manual_seed(5))
    for frames in render_frames(scenes[scenes.pan == pan][:4]):
        fits = ground_db(frames)
        assert len(fits) == len(PANS)
        assert fits.index(max(fits)) == pan
        assert max(fits) > 25


def test_nothing_fits_where_nothing_is_ground() -> None:
    frames = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
    frames[..., 0] = 255
    assert ground_db(frames) == [-math.inf] * len(PANS)


def test_ground_fit_is_the_psnr() -> None:
    frames = np.full((FRAMES, SIDE, SIDE, 3), 100, np.uint8)
    frames[1:] = 110
    assert ground_db(frames) == pytest.approx([20 * math.log10(255 / 10)] * len(PANS), abs=1e-3)
