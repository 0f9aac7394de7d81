"""Grades: real clips are right, and a wrong clip fails in exactly the wrong part."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_wan_tiny.grade import FIRST_FRAME_DB, Grade, ShapeGrade, grade, shares
from vq_wan_tiny.prompts import draw_clips
from vq_wan_tiny.render import render_frames
from vq_wan_tiny.world import FRAMES, PANS, SIDE, Scenes

CLIPS = 30
SceneOf = Callable[..., Scenes]
Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def real() -> list[tuple[str, Frames]]:
    return list(draw_clips(CLIPS, 11, held_out=True))


@pytest.fixture(scope="module")
def grades(real: list[tuple[str, Frames]]) -> list[Grade]:
    return [grade(frames, text, frames[0]) for text, frames in real]


@pytest.fixture
def moving(scene_of: SceneOf) -> Frames:
    """`a red star moves right quickly while turning, the camera pans up`."""
    star = {"colour": 0, "kind": 3, "direction": 0, "quick": True, "turning": True, "start": (30.0, 40.0)}
    return render_frames(scene_of(star, pan=PANS.index("up")))[0]


TEXT = "a red star moves right quickly while turning, the camera pans up"


def wrong(result: Grade) -> set[str]:
    """What is wrong in a clip of one shape."""
    parts = {name: getattr(result.shapes[0], name) for name in ("direction", "speed", "turning", "sizing")}
    parts |= {"background": result.background, "first_frame": result.first_frame}
    return {name for name, right in parts.items() if not right}


def test_real_clips_are_right(grades: list[Grade]) -> None:
    found = shares(grades)
    assert found["background"].value == found["first_frame"].value == 1
    assert min(found["direction"].value, found["speed"].value) >= 0.99
    assert min(found["turning"].value, found["sizing"].value) >= 0.95
    assert all(result.first_frame_db == math.inf for result in grades)


def test_real_clips_end_where_they_should(grades: list[Grade]) -> None:
    misses = [shape.miss for result in grades for shape in result.shapes]
    assert np.mean(misses) < 1
    assert np.quantile(misses, 0.95) < 3


def test_shapes_are_graded_under_their_names(real: list[tuple[str, Frames]], grades: list[Grade]) -> None:
    for (text, _), result in zip(real, grades, strict=True):
        parts = [part for part in text.split(", ") if "camera" not in part]
        assert len(parts) == len(result.shapes)
        assert all(part.startswith(f"a {shape.name} ") for part, shape in zip(parts, result.shapes, strict=True))


@pytest.mark.parametrize(
    ("true", "false", "expected"),
    [
        ("", "", set()),
        ("right", "left", {"direction"}),
        ("right", "down and right", {"direction"}),
        ("quickly", "slowly", {"speed"}),
        ("moves right quickly", "stays still", {"direction", "speed"}),
        (" while turning", "", {"turning"}),
        ("turning", "turning and growing", {"sizing"}),
        ("turning", "turning and shrinking", {"sizing"}),
    ],
)
def test_a_false_claim_is_wrong_and_nothing_else(moving: Frames, true: str, false: str, expected: set[str]) -> None:
    assert wrong(grade(moving, TEXT.replace(true, false), moving[0])) == expected


@pytest.mark.parametrize("pan", ["", "left", "right", "down"])
def test_another_pan_is_wrong_in_the_background_and_in_what_moves_over_it(moving: Frames, pan: str) -> None:
    text = TEXT.replace("pans up", f"pans {pan}") if pan else TEXT.split(", ", maxsplit=1)[0]
    result = grade(moving, text, moving[0])
    assert not result.background
    assert wrong(result) <= {"background", "direction", "speed"}


def test_another_pan_leaves_turning_and_sizing(real: list[tuple[str, Frames]]) -> None:
    for text, frames in [clip for clip in real if "camera" not in clip[0]][:10]:
        right, result = (grade(frames, told, frames[0]) for told in (text, f"{text}, the camera pans left"))
        assert not result.background
        assert result.first_frame
        for before, after in zip(right.shapes, result.shapes, strict=True):
            assert (before.turning, before.sizing) == (after.turning, after.sizing)


def test_reversed_clip_goes_the_other_way(moving: Frames) -> None:
    backwards = moving[::-1]
    assert wrong(grade(backwards, TEXT, backwards[0])) == {"direction", "turning", "background"}
    text = "a red star moves left quickly, the camera pans down"
    assert wrong(grade(backwards, text, backwards[0])) == set()


def test_frozen_clip_stays_still(moving: Frames) -> None:
    frozen = np.repeat(moving[:1], FRAMES, axis=0)
    assert wrong(grade(frozen, TEXT, frozen[0])) == {"direction", "speed", "turning", "background"}
    assert wrong(grade(frozen, "a red star stays still", frozen[0])) == set()


def test_noise_is_all_wrong(moving: Frames) -> None:
    noise = np.random.default_rng(0).integers(0, 256, moving.shape, np.uint8)
    for pan in PANS:
        camera = f", the camera pans {pan}" if pan else ""
        text = f"a red star moves down and right quickly while turning and growing{camera}"
        result = wrong(grade(noise, text, moving[0]))
        assert result >= {"direction", "speed", "sizing", "background", "first_frame"}  # a turn may be right by chance


def test_lost_shape_has_everything_wrong(moving: Frames) -> None:
    shape = grade(moving, TEXT.replace("red", "cyan"), moving[0]).shapes[0]
    assert not any((shape.direction, shape.speed, shape.turning, shape.sizing))
    assert math.isnan(shape.miss)


def test_clip_that_starts_from_another_image_is_wrong_in_the_first_frame(moving: Frames) -> None:
    result = grade(moving, TEXT, moving[-1])
    assert wrong(result) == {"first_frame"}
    error = np.mean((moving[0] / 255.0 - moving[-1] / 255.0) ** 2)
    assert result.first_frame_db == pytest.approx(-10 * math.log10(error))


@pytest.mark.parametrize(("offset", "right"), [(14, True), (15, False)])
def test_first_frame_is_right_from_25_db(offset: int, right: bool) -> None:
    frames = np.full((FRAMES, SIDE, SIDE, 3), 100, np.uint8)
    result = grade(frames, TEXT, frames[0] + np.uint8(offset))
    assert result.first_frame_db == pytest.approx(20 * math.log10(255 / offset))
    assert result.first_frame == right == (result.first_frame_db >= FIRST_FRAME_DB)


@pytest.mark.parametrize(
    ("clip", "image"),
    [((16, 96, 96, 3), (96, 96, 3)), ((17, 64, 96, 3), (64, 96, 3)), ((17, 96, 96, 3), (64, 64, 3))],
    ids=["frames", "size", "image"],
)
def test_another_size_is_refused(clip: tuple[int, ...], image: tuple[int, ...]) -> None:
    described = f"a clip of {clip[0]} frames of {clip[1]}x{clip[2]} from an image of {image[0]}x{image[1]} cannot"
    with pytest.raises(VqError, match=f"{described} be graded: wan-tiny's world is 17 frames of 96x96"):
        grade(np.zeros(clip, np.uint8), TEXT, np.zeros(image, np.uint8))


def random_grades(count: int) -> list[Grade]:
    """Direction right in 70 % of the shapes, speed always, turning never, sizing in clips that go well as a whole."""
    chance = np.random.default_rng(1)
    result = []
    for _ in range(count):
        good = bool(chance.random() < 0.6)
        shapes = [
            ShapeGrade("red star", bool(chance.random() < 0.7), speed=True, turning=False, sizing=good, miss=1.0)
            for _ in range(int(chance.integers(1, 5)))
        ]
        result.append(Grade(tuple(shapes), background=good, first_frame_db=30.0 if good else 20.0))
    return result


def test_shares_are_counted_over_shapes_and_over_clips() -> None:
    grades = random_grades(80)
    shapes: list[Any] = [shape for result in grades for shape in result.shapes]
    found = shares(grades)
    for name in ("direction", "speed", "turning", "sizing"):
        assert found[name].value == pytest.approx(sum(getattr(shape, name) for shape in shapes) / len(shapes))
    for name in ("background", "first_frame"):
        assert found[name].value == pytest.approx(sum(getattr(result, name) for result in grades) / len(grades))
    assert list(found) == ["direction", "speed", "turning", "sizing", "first_frame", "background"]


def test_interval_contains_the_share_and_is_that_of_the_normal_law() -> None:
    found = shares(random_grades(400))
    assert all(share.low <= share.value <= share.high for share in found.values())
    assert (found["speed"].low, found["speed"].high, found["turning"].low, found["turning"].high) == (1, 1, 0, 0)
    share = found["background"]
    assert share.high - share.low == pytest.approx(2 * 1.96 * math.sqrt(share.value * (1 - share.value) / 400), rel=0.1)


def test_shapes_that_fail_together_widen_the_interval() -> None:
    together = random_grades(400)
    apart = [replace(result, shapes=(shape,)) for result in together for shape in result.shapes]
    wide, narrow = shares(together)["sizing"], shares(apart)["sizing"]
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_same_seed_gives_the_same_intervals() -> None:
    grades = random_grades(30)
    assert shares(grades, seed=1) == shares(grades, seed=1) != shares(grades, seed=2)
