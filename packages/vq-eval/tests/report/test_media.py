from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.video import read_video, write_video
from vq_eval.report import media
from vq_eval.report.media import write_clip


def noise(frames: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("frames_on_a_sheet", [1, 3, 7, 100])
def test_sheets_hold_every_frame_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames_on_a_sheet: int
) -> None:
    video = noise(7, 16, 24)
    write_video(tmp_path / "a.mkv", video, 8)
    monkeypatch.setattr(media, "SHEET_PIXELS", frames_on_a_sheet * 16 * 24)
    clip = write_clip(tmp_path / "a.mkv", tmp_path / "report", "0/000", lossless_frames=True)
    for number, frame in enumerate(video):
        sheet = np.asarray(Image.open(tmp_path / "report" / clip.sheets[number // clip.per_sheet]).convert("RGB"))
        row, column = divmod(number % clip.per_sheet, clip.columns)
        found = sheet[16 * row : 16 * (row + 1), 24 * column : 24 * (column + 1)]
        np.testing.assert_array_equal(found, frame)


def test_the_video_beside_a_lossless_one_is_copied(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", noise(3, 16, 16), 8)
    write_video(tmp_path / "a.mp4", noise(3, 16, 16), 8)
    clip = write_clip(tmp_path / "a.mkv", tmp_path / "report", "0/000", lossless_frames=False)
    assert (tmp_path / "report" / clip.video).read_bytes() == (tmp_path / "a.mp4").read_bytes()
    assert (clip.fps, clip.sheets) == (8, ())


def test_a_damaged_video_is_not_copied(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", noise(3, 16, 16), 8)
    write_video(tmp_path / "a.mp4", noise(3, 16, 16), 8)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VqError, match=r"a\.mp4 is not a video that can be decoded"):
        write_clip(tmp_path / "a.mkv", tmp_path / "report", "0/000", lossless_frames=False)


def test_where_there_is_only_a_lossless_video_one_that_plays_is_made(tmp_path: Path) -> None:
    video = np.full((3, 16, 16, 3), 90, np.uint8)
    write_video(tmp_path / "a.mkv", video, 8)
    clip = write_clip(tmp_path / "a.mkv", tmp_path / "report", "0/000", lossless_frames=False)
    assert abs(read_video(tmp_path / "report" / clip.video).astype(int) - video).max() <= 2


def test_no_lossless_frames_are_made_of_a_lossy_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", noise(3, 16, 16), 8)
    assert write_clip(tmp_path / "a.mp4", tmp_path / "report", "0/000", lossless_frames=True).sheets == ()


@pytest.mark.parametrize(("frames", "numbers"), [(1, (0,)), (3, (0, 1, 2)), (17, (0, 2, 5, 7, 9, 11, 14, 16))])
def test_a_strip_shows_the_first_frame_and_the_last(tmp_path: Path, frames: int, numbers: tuple[int, ...]) -> None:
    write_video(tmp_path / "a.mkv", noise(frames, 200, 100), 8)
    clip = write_clip(tmp_path / "a.mkv", tmp_path / "report", "0/000", lossless_frames=False)
    assert clip.strip_frames == numbers
    with Image.open(tmp_path / "report" / clip.strip) as picture:
        assert picture.size == (48 * len(numbers), media.STRIP_HEIGHT)
