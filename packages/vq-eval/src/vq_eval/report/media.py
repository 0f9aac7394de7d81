"""Videos and pictures of the report: what a browser plays, strips of frames, and lossless frames to subtract."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vq_core.media.video import frames_per_second, read_video, write_video

STRIP_FRAMES = 8
STRIP_HEIGHT = 96
SHEET_PIXELS = 4_000_000
"""Of one picture of lossless frames: phones refuse to decode much larger ones."""
LOSSLESS_PIXELS = 64_000_000
"""Of all lossless frames of a report, unless they are asked for: about 100 MB."""


@dataclass(frozen=True)
class Clip:
    """Files of one video, relative to the report.

    Attributes:
        video: the `.mp4` that is played.
        fps: frames per second.
        strip: picture of a few frames beside one another.
        strip_frames: their numbers.
        sheets: pictures of all frames, lossless, in rows of `columns`, `per_sheet` on each; empty without them.
        columns: frames in a row of a sheet.
        per_sheet: frames on a sheet.
    """

    video: str
    fps: float
    strip: str
    strip_frames: tuple[int, ...]
    sheets: tuple[str, ...]
    columns: int
    per_sheet: int


def write_clip(source: Path, report: Path, stem: str, *, lossless_frames: bool) -> Clip:
    """Write the files of the video `source` below the folder `report`, all named by `stem`.

    The `.mp4` beside a lossless video is copied; where there is none it is made. Lossless frames are written of a
    lossless video alone.

    Raises:
        VqError: `source`, or the `.mp4` beside it, is not a video or is damaged.
    """
    frames, fps = read_video(source), frames_per_second(source)
    video = report / "videos" / f"{stem}.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    playable = source.with_suffix(".mp4")
    if playable.is_file():
        read_video(playable)  # refuses a damaged one
        shutil.copyfile(playable, video)
    else:
        write_video(video, frames, round(fps))
    numbers = _evenly(len(frames), STRIP_FRAMES)
    strip = report / "strips" / f"{stem}.webp"
    _write_strip(strip, frames[list(numbers)])
    columns, per_sheet = _layout(frames.shape)
    sheets = []
    if lossless_frames and source.suffix.lower() == ".mkv":
        for number, first in enumerate(range(0, len(frames), per_sheet)):
            sheet = report / "frames" / f"{stem}-{number}.webp"
            _write_sheet(sheet, frames[first : first + per_sheet], columns)
            sheets.append(sheet)
    names = [path.relative_to(report).as_posix() for path in (video, strip, *sheets)]
    return Clip(names[0], fps, names[1], numbers, tuple(names[2:]), columns, per_sheet)


def _evenly(count: int, wanted: int) -> tuple[int, ...]:
    """At most `wanted` of the numbers below `count`, evenly spaced, the first and the last among them."""
    return tuple(dict.fromkeys(int(number) for number in np.linspace(0, count - 1, min(count, wanted)).round()))


def _layout(shape: Sequence[int]) -> tuple[int, int]:
    """Columns of a sheet, and frames on it; about square, because sides are limited too."""
    frames, height, width = shape[:3]
    per_sheet = max(1, min(frames, SHEET_PIXELS // (height * width)))
    return math.ceil(math.sqrt(per_sheet)), per_sheet


def _write_strip(path: Path, frames: NDArray[np.uint8]) -> None:
    from PIL import Image

    picture = Image.fromarray(np.concatenate(list(frames), axis=1))
    _, height, width, _ = frames.shape
    if height > STRIP_HEIGHT:
        size = (len(frames) * round(width * STRIP_HEIGHT / height), STRIP_HEIGHT)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=85)


def _write_sheet(path: Path, frames: NDArray[np.uint8], columns: int) -> None:
    """Frames in rows of `columns`; what is left of the last row is black."""
    from PIL import Image

    count, height, width, _ = frames.shape
    rows = math.ceil(count / columns)
    padded = np.zeros((rows * columns, height, width, 3), np.uint8)
    padded[:count] = frames
    grid = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(path, lossless=True)
