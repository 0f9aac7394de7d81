"""A picture of videos below one another: frames of each, and under them its name and figures."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FRAMES = 5
SCALE = 2
MARGIN, GAP = 12, 4
TEXT_PIXELS, LINE_PIXELS = 17, 26
TITLE_CHARACTERS = 100
INK, PAPER = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One video, uint8 RGB [frames, height, width, 3], and the line under it."""

    text: str
    frames: NDArray[np.uint8]


def row_text(name: str, psnr_db: float | None, graded: Mapping[str, Any]) -> str:
    """Such as `INT8 rounded only: 17.2 dB, 0 of 3 shapes as told`; without a PSNR, the reference.

    `graded` is the JSON that `vq-wan-tiny grade` gives of one video.
    """
    fidelity = "reference" if psnr_db is None else f"{psnr_db:.1f} dB"
    return f"{name}: {fidelity}, {graded['shapes_as_told']} of {len(graded['shapes'])} shapes as told"


def psnr_of(row: Mapping[str, Any], index: int) -> float:
    """PSNR in dB of one video of a row in the JSON that `vq-eval compare` gives; infinite where it is identical."""
    figure = row["videos"][index]["figures"]["psnr"]["video"]
    return float("inf") if figure is None else float(figure)


def psnr(video: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """PSNR in dB over all frames; infinite where they are identical."""
    error = np.square(video.astype(float) - reference).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def draw_strip(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write the picture: `title` on top, then `FRAMES` frames of each row, twice their size, and its text below."""
    _, height, width, _ = rows[0].frames.shape
    height, width = SCALE * height, SCALE * width
    lines = textwrap.wrap(title, TITLE_CHARACTERS)
    top = MARGIN + LINE_PIXELS * len(lines)
    row_height = height + LINE_PIXELS + GAP
    picture_width = 2 * MARGIN + FRAMES * width + (FRAMES - 1) * GAP
    picture = Image.new("RGB", (picture_width, top + row_height * len(rows) + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT_PIXELS)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + LINE_PIXELS * number), line, INK, font)
    for number, row in enumerate(rows):
        y = top + row_height * number
        for column, frame in enumerate(np.linspace(0, len(row.frames) - 1, FRAMES).round().astype(int)):
            image = Image.fromarray(row.frames[frame]).resize((width, height), Image.Resampling.NEAREST)
            picture.paste(image, (MARGIN + column * (width + GAP), y))
        draw.text((MARGIN, y + height + 2), row.text, INK, font)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
