"""Scenes as they are drawn: from a seed, on the right side of the split, and placed where they can be seen."""

import math
from dataclasses import fields
from itertools import combinations

import pytest
import torch
from torch import Tensor

from vq_wan_tiny.world import (
    DIRECTIONS,
    GROWING,
    MAX_RADIUS,
    MIN_RADIUS,
    PAN_PIXELS,
    PANS,
    QUICK_PIXELS,
    SAME_SIZE,
    SHRINKING,
    SIDE,
    SIZE_RATIOS,
    SLOW_PIXELS,
    STILL,
    Scenes,
    draw_scenes,
    pan_way,
    size_ratio,
    way,
)

COUNT = 2000
STEPS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}


def drawn(count: int = COUNT, seed: int = 0, *, held_out: bool = False) -> Scenes:
    return draw_scenes(count, torch.Generator().manual_seed(seed), held_out=held_out)


@pytest.fixture(scope="module", params=[False, True], ids=["training", "held out"])
def scenes(request: pytest.FixtureRequest) -> Scenes:
    return drawn(held_out=request.param)


def tensors(scenes: Scenes) -> dict[str, Tensor]:
    return {field.name: getattr(scenes, field.name) for field in fields(scenes)}


def test_same_seed_draws_the_same_scenes_and_another_others() -> None:
    first, again, other = (tensors(drawn(20, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("held_out", [False, True])
def test_split_is_by_colour_kind_and_direction(held_out: bool) -> None:
    scenes = drawn(held_out=held_out)
    told = torch.stack((scenes.colour, scenes.kind, scenes.direction), dim=-1)[scenes.present]
    drawn_ones = {(c, k, d) for c, k, d in told.tolist()}
    every = {(c, k, d) for c in range(6) for k in range(5) for d in range(9)}
    assert drawn_ones == {(c, k, d) for c, k, d in every if ((c + 2 * k + d) % 9 == 0) == held_out}


def test_part_of_the_scenes_is_those_scenes() -> None:
    scenes = drawn(10)
    part = scenes[torch.tensor([7, 2])]
    assert (len(scenes), len(part), len(scenes[3:6])) == (10, 2, 3)
    assert all(torch.equal(tensors(part)[name], whole[[7, 2]]) for name, whole in tensors(scenes).items())


def test_two_to_four_shapes_of_different_colours(scenes: Scenes) -> None:
    assert set(scenes.count.tolist()) == {2, 3, 4}
    assert torch.equal(scenes.present.sum(1), scenes.count)
    assert torch.equal(scenes.present, scenes.present.sort(dim=1, descending=True).values)
    assert all(len(set(colours)) == 4 for colours in scenes.colour.tolist())


def test_radius_stays_within_its_limits(scenes: Scenes) -> None:
    ratio = torch.tensor(SIZE_RATIOS)[scenes.sizing]
    for radius in (scenes.radius, scenes.radius * ratio):
        assert radius.min() >= MIN_RADIUS - 1e-4
        assert radius.max() <= MAX_RADIUS + 1e-4
    assert scenes.radius[scenes.sizing == SAME_SIZE].max() > 13


def test_only_what_can_be_seen_to_turn_turns(scenes: Scenes) -> None:
    assert not scenes.turning[scenes.kind == 0].any()
    assert scenes.turning[scenes.kind != 0].float().mean() == pytest.approx(0.35, abs=0.03)


def test_camera_pans_in_a_quarter_of_the_clips_in_all_directions(scenes: Scenes) -> None:
    shares = torch.bincount(scenes.pan, minlength=len(PANS)) / COUNT
    assert shares.tolist() == pytest.approx([0.76, 0.06, 0.06, 0.06, 0.06], abs=0.03)


def test_no_wave_is_finer_than_14_pixels(scenes: Scenes) -> None:
    assert (2 * math.pi / scenes.waves.norm(dim=-1)).min() >= 14


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("direction", range(len(DIRECTIONS)), ids=DIRECTIONS)
def test_way_goes_where_the_direction_says(direction: int, quick: bool) -> None:
    steps = torch.tensor([STEPS[word] for word in DIRECTIONS[direction].split(" and ")]).float().sum(0)
    expected = steps / steps.norm() * (QUICK_PIXELS if quick else SLOW_PIXELS)
    torch.testing.assert_close(way(torch.tensor(direction), torch.tensor(quick)), expected, atol=1e-4, rtol=0)


def test_still_goes_nowhere() -> None:
    assert way(torch.tensor([STILL, STILL]), torch.tensor([True, False])).tolist() == [[0, 0], [0, 0]]


def test_ground_goes_against_the_camera() -> None:
    expected = [[0.0, 0.0], *([-PAN_PIXELS * x, -PAN_PIXELS * y] for x, y in (STEPS[name] for name in PANS[1:]))]
    assert pan_way(torch.arange(len(PANS))).tolist() == expected


def test_size_ratio_grows_and_shrinks() -> None:
    same, grown, shrunk = size_ratio(torch.tensor([SAME_SIZE, GROWING, SHRINKING])).tolist()
    assert shrunk < same == 1 < grown


def test_shapes_start_and_end_inside_the_picture_and_apart(scenes: Scenes) -> None:
    """As circles; where none of the tries fits, the least bad one is taken, in fewer than 1 clip of 100."""
    angle = scenes.direction * (math.pi / 4)
    pixels = torch.where(scenes.quick, 26.0, 10.0) * (scenes.direction != STILL)
    camera = torch.tensor([STEPS.get(pan, (0, 0)) for pan in PANS])[scenes.pan]
    moved = torch.stack((angle.cos() * pixels, angle.sin() * pixels), dim=-1) - 14 * camera[:, None]
    ratio = torch.tensor(SIZE_RATIOS)[scenes.sizing]
    unfit = torch.zeros(COUNT, dtype=torch.bool)
    for centre, radius in ((scenes.start, scenes.radius), (scenes.start + moved, scenes.radius * ratio)):
        inside = (centre >= radius[..., None] - 0.01) & (centre <= SIDE - radius[..., None] + 0.01)
        assert inside[scenes.present].all()
        for a, b in combinations(range(4), 2):
            apart = (centre[:, a] - centre[:, b]).norm(dim=-1) - radius[:, a] - radius[:, b]
            unfit |= (apart < 0) & scenes.present[:, b]
    assert unfit.sum() < 0.01 * COUNT
