"""Captions: written, read back, and refused."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.errors import VqError
from vq_wan_tiny.captions import EXAMPLE, WORDS, Claim, Claims, caption, claims_of, parse_caption
from vq_wan_tiny.shapes import COLOURS, KINDS
from vq_wan_tiny.world import DIRECTIONS, GROWING, PANS, SAME_SIZE, SHRINKING, STILL, draw_scenes

UP_AND_LEFT = DIRECTIONS.index("up and left")


@st.composite
def any_claims(draw: st.DrawFn) -> Claims:
    shapes = []
    for colour in draw(st.lists(st.integers(0, len(COLOURS) - 1), min_size=1, max_size=4, unique=True)):
        direction = draw(st.integers(0, STILL))
        quick, turning = draw(st.booleans()) and direction != STILL, draw(st.booleans())
        kind, sizing = draw(st.integers(0, len(KINDS) - 1)), draw(st.sampled_from((SAME_SIZE, GROWING, SHRINKING)))
        shapes.append(Claim(colour, kind, direction, quick, turning, sizing))
    return Claims(tuple(shapes), draw(st.integers(0, len(PANS) - 1)))


@given(any_claims())
def test_caption_is_read_back(claims: Claims) -> None:
    assert parse_caption(caption(claims)) == claims


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_of_scenes_are_read_back_and_in_the_words(held_out: bool) -> None:
    claims = claims_of(draw_scenes(400, torch.Generator().manual_seed(3), held_out=held_out))
    words: set[str] = set()
    for claim in claims:
        text = caption(claim)
        assert parse_caption(text) == claim
        words.update(re.findall(r"\w+|,", text))
    assert words == set(WORDS)


def test_claims_are_what_the_scene_holds() -> None:
    scenes = draw_scenes(50, torch.Generator().manual_seed(4))
    for clip, claims in enumerate(claims_of(scenes)):
        assert (len(claims.shapes), claims.pan) == (scenes.count[clip], scenes.pan[clip])
        for slot, claim in enumerate(claims.shapes):
            for name in ("colour", "kind", "direction", "turning", "sizing"):
                assert getattr(claim, name) == getattr(scenes, name)[clip, slot]
            assert claim.quick == (scenes.quick[clip, slot] and scenes.direction[clip, slot] != STILL)


CIRCLE = Claim(COLOURS.index("red"), KINDS.index("circle"), UP_AND_LEFT, quick=True, turning=True, sizing=SAME_SIZE)
SQUARE = Claim(COLOURS.index("blue"), KINDS.index("square"), STILL, quick=False, turning=False, sizing=SAME_SIZE)
STAR = Claim(COLOURS.index("cyan"), KINDS.index("star"), DIRECTIONS.index("down"), False, True, GROWING)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        (EXAMPLE, Claims((CIRCLE, SQUARE), PANS.index("left"))),
        ("a cyan star moves down slowly while turning and growing", Claims((STAR,), 0)),
    ],
)
def test_captions_in_words(text: str, claims: Claims) -> None:
    assert parse_caption(text) == claims
    assert caption(claims) == text
    assert all(f"a {claim.name} " in text for claim in claims.shapes)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", ""),
        ("a dog runs", "a dog runs"),
        ("a purple circle stays still", "a purple circle stays still"),
        ("a red circle stays still, a blue hexagon stays still", "a blue hexagon stays still"),
        ("a red circle moves up", "a red circle moves up"),
        ("a red circle moves up and down quickly", "a red circle moves up and down quickly"),
        ("a red circle stays still while jumping", "a red circle stays still while jumping"),
        ("a red circle stays still, the camera pans away", "the camera pans away"),
        ("a red circle stays still.", "a red circle stays still."),
    ],
)
def test_part_in_another_language_is_refused(text: str, part: str) -> None:
    with pytest.raises(VqError, match=re.escape(f"`{part}` in the prompt is not wan-tiny's language: write it like")):
        parse_caption(text)


def test_two_shapes_of_a_colour_are_refused() -> None:
    text = "a red circle stays still, a red square stays still"
    with pytest.raises(VqError, match=f"two shapes in the prompt `{text}` have the same colour: give each its own"):
        parse_caption(text)
