"""Captions of wan-tiny's clips: written from a scene, and read back into what they claim."""

import re
from dataclasses import dataclass

import torch

from vq_core.errors import VqError
from vq_wan_tiny.shapes import COLOURS, KINDS
from vq_wan_tiny.world import DIRECTIONS, PANS, STILL, Scenes

NEGATIVE_PROMPT = ""  # what training puts in place of a dropped caption
EXAMPLE = "a red circle moves up and left quickly while turning, a blue square stays still, the camera pans left"
_SIZINGS = ("", "growing", "shrinking")  # by index, as in `Scenes`
_SHAPE = re.compile(
    rf"an? (?P<colour>{'|'.join(COLOURS)}) (?P<kind>{'|'.join(KINDS)}) "
    rf"(?:stays still|moves (?P<direction>{'|'.join(sorted(DIRECTIONS, key=len, reverse=True))}) "
    r"(?P<speed>slowly|quickly))"
    r"(?: while (?P<turning>turning)?(?: and )?(?P<sizing>growing|shrinking)?)?"
)
_CAMERA = re.compile(rf"the camera pans (?P<pan>{'|'.join(PANS[1:])})")
_GRAMMAR = "a moves stays still slowly quickly while turning and growing shrinking the camera pans ,"
WORDS = sorted({*COLOURS, *KINDS, *" ".join(DIRECTIONS).split(), *PANS[1:], *_GRAMMAR.split()})


@dataclass(frozen=True)
class Claim:
    """The claims about one shape; indices as in `Scenes`. `quick` is false for a shape that stays still."""

    colour: int
    kind: int
    direction: int
    quick: bool
    turning: bool
    sizing: int

    @property
    def name(self) -> str:
        """Such as `red circle`."""
        return f"{COLOURS[self.colour]} {KINDS[self.kind]}"


@dataclass(frozen=True)
class Claims:
    """The claims of a caption: its shapes, from back to front, and the camera's pan as an index into `PANS`."""

    shapes: tuple[Claim, ...]
    pan: int


def claims_of(scenes: Scenes) -> list[Claims]:
    """The true claims about each clip."""
    quick = scenes.quick & (scenes.direction != STILL)
    parts = (scenes.colour, scenes.kind, scenes.direction, quick, scenes.turning, scenes.sizing)
    told = torch.stack(parts, dim=-1).tolist()  # [clips][slots] of an integer for each part
    return [
        Claims(tuple(Claim(c, k, d, bool(q), bool(t), s) for c, k, d, q, t, s in slots[:count]), pan)
        for slots, count, pan in zip(told, scenes.count.tolist(), scenes.pan.tolist(), strict=True)
    ]


def caption(claims: Claims) -> str:
    """The caption that claims this."""
    parts = [_sentence(claim) for claim in claims.shapes]
    if claims.pan:
        parts.append(f"the camera pans {PANS[claims.pan]}")
    return ", ".join(parts)


def parse_caption(text: str) -> Claims:
    """The claims of a caption; the inverse of `caption`.

    Raises:
        VqError: a part of the text is not in the captions' grammar, or a colour comes twice.
    """
    shapes: list[Claim] = []
    pan = 0
    for part in text.split(", "):
        camera, shape = _CAMERA.fullmatch(part), _SHAPE.fullmatch(part)
        if camera:
            pan = PANS.index(camera["pan"])
        elif shape:
            shapes.append(
                Claim(
                    colour=COLOURS.index(shape["colour"]),
                    kind=KINDS.index(shape["kind"]),
                    direction=DIRECTIONS.index(shape["direction"]) if shape["direction"] else STILL,
                    quick=shape["speed"] == "quickly",
                    turning=bool(shape["turning"]),
                    sizing=_SIZINGS.index(shape["sizing"] or ""),
                )
            )
        else:
            raise VqError(f"`{part}` in the prompt is not wan-tiny's language: write it like `{EXAMPLE}`.")
    colours = [claim.colour for claim in shapes]
    if len(set(colours)) < len(colours):
        raise VqError(f"two shapes in the prompt `{text}` have the same colour: give each its own.")
    return Claims(tuple(shapes), pan)


def _sentence(claim: Claim) -> str:
    if claim.direction == STILL:
        text = f"a {claim.name} stays still"
    else:
        text = f"a {claim.name} moves {DIRECTIONS[claim.direction]} {'quickly' if claim.quick else 'slowly'}"
    changes = [word for word in ("turning" if claim.turning else "", _SIZINGS[claim.sizing]) if word]
    return f"{text} while {' and '.join(changes)}" if changes else text
