"""Which files of a folder are its videos."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.media.video_folder import videos_in


def _folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def test_the_lossless_of_two_is_taken_and_others_are_not_videos(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "001.MKV", "001.mp4", "000.mkv", "000.json", "._000.mkv")
    assert {name: path.name for name, path in videos_in(folder).items()} == {"000": "000.mkv", "001": "001.MKV"}
    assert list(videos_in(folder)) == ["000", "001"]


def test_lossy_ones_alone_will_do(tmp_path: Path) -> None:
    assert list(videos_in(_folder(tmp_path, "b.mp4", "a.MP4"))) == ["a", "b"]


def test_a_lossy_one_among_lossless_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"/001\.mkv is missing, and others are there"):
        videos_in(_folder(tmp_path, "000.mkv", "001.mp4"))


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="holds no .mkv or .mp4 video"):
        videos_in(_folder(tmp_path, "000.json"))
    with pytest.raises(VqError, match="nowhere is not a folder"):
        videos_in(tmp_path / "nowhere")
