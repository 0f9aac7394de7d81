"""Folders of videos against folders of prompts: paired by name, graded, and refused where they do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_wan_tiny.grade import Share, grade
from vq_wan_tiny.grade_videos import Grading, grade_videos, share_text
from vq_wan_tiny.prompts import draw_clips, write_prompts

COUNT = 3


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts, and the clips as they should be."""
    folder = tmp_path_factory.mktemp("drawn")
    write_prompts(folder / "prompts", COUNT, 0, held_out=True)
    for index, (_, frames) in enumerate(draw_clips(COUNT, 0, held_out=True)):
        write_video(folder / "videos" / f"{index:03d}.mkv", frames, 8)
    return folder


@pytest.fixture
def prompts(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn / "prompts", tmp_path / "prompts"))


@pytest.fixture
def videos(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn / "videos", tmp_path / "videos"))


@pytest.fixture
def refused(videos: Path, prompts: Path) -> Callable[[str], None]:
    def refuse(sentence: str) -> None:
        with pytest.raises(VqError, match=sentence):
            grade_videos(videos, prompts)

    return refuse


def test_each_video_is_graded_against_its_own_prompt(videos: Path, prompts: Path) -> None:
    graded = grade_videos(videos, prompts)
    clips = list(draw_clips(COUNT, 0, held_out=True))
    assert [video.prompt for video in graded.videos] == [text for text, _ in clips]
    assert [video.grade for video in graded.videos] == [grade(frames, text, frames[0]) for text, frames in clips]
    assert [video.shapes_as_told for video in graded.videos] == [len(video.grade.shapes) for video in graded.videos]
    assert graded.shares["direction"].value == 1


def test_a_still_clip_is_not_as_told(videos: Path, prompts: Path) -> None:
    _, frames = next(draw_clips(COUNT, 0, held_out=True))
    write_video(videos / "000.mkv", np.repeat(frames[:1], 17, axis=0), 8)
    first = grade_videos(videos, prompts).videos[0]
    assert first.shapes_as_told < len(first.grade.shapes)
    assert first.grade.first_frame


def test_the_lossless_of_two_is_graded(videos: Path, prompts: Path) -> None:
    before = grade_videos(videos, prompts)
    write_video(videos / "000.mp4", np.zeros((17, 96, 96, 3), np.uint8), 8)
    assert grade_videos(videos, prompts) == before


def test_an_mp4_is_graded_where_there_is_no_other(videos: Path, prompts: Path) -> None:
    _, frames = next(draw_clips(COUNT, 0, held_out=True))
    (videos / "000.mkv").unlink()
    write_video(videos / "000.mp4", frames, 8)
    assert grade_videos(videos, prompts).videos[0].path.name == "000.mp4"


def test_json_has_no_infinity(videos: Path, prompts: Path) -> None:
    write_video(videos / "001.mkv", np.zeros((17, 96, 96, 3), np.uint8), 8)
    result = json.loads(json.dumps(grade_videos(videos, prompts).to_json(), allow_nan=False))
    assert result["videos"][0]["first_frame_db"] is None  # equal
    assert result["videos"][1]["shapes"][0]["miss"] is None  # lost
    assert result["videos"][1]["shapes_as_told"] == 0
    assert set(result["shares"]["speed"]) == {"value", "low", "high"}


def test_rows_name_every_share(videos: Path, prompts: Path) -> None:
    graded: Grading = grade_videos(videos, prompts)
    assert list(graded.rows()) == ["videos", "direction", "speed", "turning", "sizing", "first frame", "background"]


def test_share_in_words() -> None:
    assert share_text(Share(0.971, 0.95, 0.986)) == "97.1 % (95.0 to 98.6)"


def test_no_folder_is_refused(tmp_path: Path, prompts: Path) -> None:
    with pytest.raises(VqError, match="absent is not a folder"):
        grade_videos(tmp_path / "absent", prompts)


def test_no_videos_are_refused(tmp_path: Path, prompts: Path) -> None:
    (tmp_path / "empty" / "full").mkdir(parents=True)
    with pytest.raises(VqError, match="holds no .mkv or .mp4 video"):
        grade_videos(tmp_path / "empty", prompts)


@pytest.mark.parametrize("change", ["one less", "one more"])
def test_another_number_of_videos_is_refused(videos: Path, refused: Callable[[str], None], change: str) -> None:
    if change == "one less":
        (videos / "001.mkv").unlink()
    else:
        (videos / "003.mkv").write_bytes((videos / "000.mkv").read_bytes())
    refused(f"holds {2 if change == 'one less' else 4} videos and .* 3 prompts")


def test_other_names_are_refused(videos: Path, refused: Callable[[str], None]) -> None:
    (videos / "001.mkv").rename(videos / "cat.mkv")
    refused("holds no video 001.mkv")


def test_another_size_is_refused_by_name(videos: Path, refused: Callable[[str], None]) -> None:
    write_video(videos / "002.mkv", np.zeros((17, 64, 64, 3), np.uint8), 8)
    refused("002.mkv: a clip of 17 frames of 64x64")


def test_another_length_is_refused_by_name(videos: Path, refused: Callable[[str], None]) -> None:
    write_video(videos / "002.mkv", np.zeros((5, 96, 96, 3), np.uint8), 8)
    refused("002.mkv: a clip of 5 frames of 96x96")


def test_another_language_is_refused(videos: Path, prompts: Path, refused: Callable[[str], None]) -> None:
    samples = json.loads((prompts / "samples.json").read_text())
    samples[1]["prompt"] = "a cat surfs"
    (prompts / "samples.json").write_text(json.dumps(samples))
    refused("001.mkv: `a cat surfs` in the prompt is not wan-tiny's language")
