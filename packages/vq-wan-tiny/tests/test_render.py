"""Rendered clips against the scenes that they show."""

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_wan_tiny.render import EDGE_PIXELS, render, shape_mask
from vq_wan_tiny.shapes import COLOURS, KINDS
from vq_wan_tiny.world import (
    DIRECTIONS,
    FRAMES,
    GROWING,
    PANS,
    SHRINKING,
    SIDE,
    SIZE_RATIOS,
    STILL,
    draw_scenes,
    pan_way,
    way,
)

SceneOf = Callable[..., Any]
AXIS = torch.arange(SIDE) + 0.5


def vivid(frame: Tensor) -> Tensor:
    """Where an RGB frame [3, 96, 96] in -1..1 shows a shape: its ground is grey."""
    rgb = (frame + 1) / 2
    highest, lowest = rgb.amax(0), rgb.amin(0)
    return ((highest - lowest) / highest > 0.5).float()


def centroid(weights: Tensor) -> Tensor:
    return torch.stack(((weights * AXIS).sum(), (weights * AXIS[:, None]).sum())) / weights.sum()


def hue(frame: Tensor, x: int, y: int) -> float:
    """Degrees."""
    return 360 * colorsys.rgb_to_hsv(*((frame[:, y, x] + 1) / 2).tolist())[0]


def test_clips_are_float32_pictures_within_their_range() -> None:
    frames = render(draw_scenes(12, torch.Generator().manual_seed(0)))
    assert (frames.shape, frames.dtype) == ((12, 3, FRAMES, SIDE, SIDE), torch.float32)
    assert -1 <= float(frames.min()) < -0.9
    assert 0.9 < float(frames.max()) <= 1


def test_clip_does_not_depend_on_its_neighbours() -> None:
    scenes = draw_scenes(3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(render(scenes)[1:2], render(scenes[1:2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pan", [0, 1, 4])
@pytest.mark.parametrize("direction", range(STILL + 1), ids=[*DIRECTIONS, "still"])
def test_shape_moves_as_way_and_pan_say(scene_of: SceneOf, direction: int, pan: int) -> None:
    quick = bool(direction % 2)
    frames = render(scene_of({"direction": direction, "quick": quick, "kind": direction % len(KINDS)}, pan=pan))[0]
    expected = way(torch.tensor(direction), torch.tensor(quick)) + pan_way(torch.tensor(pan))
    start, middle, end = (centroid(vivid(frames[:, frame])) for frame in (0, FRAMES // 2, FRAMES - 1))
    assert (start - SIDE / 2).norm() < 0.5  # its shadow makes one edge more vivid than the other
    assert (middle - start - 0.5 * expected).norm() < 0.3
    assert (end - start - expected).norm() < 0.3


@pytest.mark.parametrize("colour", range(len(COLOURS)), ids=COLOURS)
def test_shape_has_its_hue(scene_of: SceneOf, colour: int) -> None:
    scene = scene_of({"colour": colour, "tint": (0.0, 1.0, 1.0)})
    off = (hue(render(scene)[0, :, 0], 48, 48) - 60 * colour + 180) % 360 - 180
    assert abs(off) < 2


@pytest.mark.parametrize("front", [0, 2])
def test_later_shapes_cover_earlier_ones(scene_of: SceneOf, front: int) -> None:
    frames = render(scene_of({"colour": 2 - front}, {"colour": front, "radius": 8.0}))[0]
    assert abs(hue(frames[:, 0], 48, 48) - 60 * front) % 360 < 12
    assert abs(hue(frames[:, 0], 48, 58) - 60 * (2 - front)) % 360 < 12


@pytest.mark.parametrize("pattern", range(3), ids=["blobs", "stripes", "checks"])
@pytest.mark.parametrize("pan", range(len(PANS)))
def test_background_pans_by_exactly_pan_way(scene_of: SceneOf, pan: int, pattern: int) -> None:
    frames = render(scene_of(seed=pattern, pan=pan, pattern=pattern))[0]
    x, y = (int(pixels) for pixels in pan_way(torch.tensor(pan)).tolist())
    inner = frames[:, 0, 14:-14, 14:-14]
    moved = frames[:, -1, 14 + y : SIDE - 14 + y, 14 + x : SIDE - 14 + x]
    torch.testing.assert_close(moved, inner, atol=1e-4, rtol=0)
    assert inner.std() > 0.02


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize("sizing", [0, GROWING, SHRINKING])
def test_mask_has_the_area_of_the_shape(scene_of: SceneOf, kind: int, sizing: int) -> None:
    start = (40.3, 50.8)
    fringe = math.pi * (math.pi * EDGE_PIXELS) ** 2 / 3  # of a logistic edge: ½ ∫ π² s² / 3 dθ
    mask = shape_mask(scene_of({"kind": kind, "sizing": sizing, "radius": 11.0, "start": start}))[0]
    assert mask[0].sum() == pytest.approx(math.pi * 11**2 + fringe, rel=5e-3)
    assert mask[-1].sum() == pytest.approx(math.pi * (11 * SIZE_RATIOS[sizing]) ** 2 + fringe, rel=5e-3)
    assert (centroid(mask[0]) - torch.tensor(start)).norm() < 0.1


def test_mask_is_the_union_of_the_shapes_that_are_there(scene_of: SceneOf) -> None:
    left, right = {"start": (40.0, 48.0)}, {"start": (52.0, 48.0), "kind": 3}
    bare = [1 - shape_mask(scene_of(*shapes)) for shapes in ([left, right], [left], [right])]
    torch.testing.assert_close(bare[0], bare[1] * bare[2], atol=1e-5, rtol=0)
    assert not shape_mask(scene_of()).any()


def test_mask_is_where_shapes_change_the_picture(scene_of: SceneOf) -> None:
    scene = scene_of({"kind": 4})
    changed = vivid(render(scene)[0, :, 3])
    assert ((shape_mask(scene)[0, 3] > 0.5).float() - changed).abs().sum() < 0.15 * changed.sum()


def test_turn_is_a_quarter_clockwise(scene_of: SceneOf) -> None:
    mask = shape_mask(scene_of({"kind": 2, "turning": True}))[0]
    torch.testing.assert_close(mask[-1], torch.rot90(mask[0], -1), atol=0.05, rtol=0)
    assert (mask[-1] - torch.rot90(mask[0], 1)).abs().max() > 0.5


def test_light_comes_from_where_the_background_is_bright(scene_of: SceneOf) -> None:
    scene = scene_of({})
    scene = replace(scene, light=torch.tensor([[0.004, 0.0]]), relief=torch.zeros(1, 3))
    frame = render(scene)[0, :, 0].amax(0)
    assert frame[10, 90] > frame[10, 5]
    assert frame[48, 54] > frame[48, 42]
