"""Folders of videos against folders of prompts: paired by name, graded, and refused where they do not fit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_core.store.writer import Header, create_artifact
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


def test_a_video_that_was_altered_is_refused(videos: Path, prompts: Path, tmp_path: Path) -> None:
    header = Header(KIND, FORMAT, "vq test", "wan", "model", {}, {}, {})
    with create_artifact(tmp_path / "made", header) as writer:
        for path in videos.iterdir():
            shutil.copyfile(path, writer.draft(f"full/{path.name}"))
            writer.adopt(f"full/{path.name}")
    made = tmp_path / "made" / "full"
    assert grade_videos(made, prompts) == replace_folder(grade_videos(videos, prompts), made)
    shutil.copyfile(made / "001.mkv", made / "000.mkv")
    with pytest.raises(VqError, match=r"000\.mkv is not the file that was written"):
        grade_videos(made, prompts)


def replace_folder(grading: Grading, folder: Path) -> Grading:
    return Grading(tuple(replace(video, path=folder / video.path.name) for video in grading.videos))


def test_the_lossless_of_two_is_graded(videos: Path, prompts: Path) -> None:
    before = grade_videos(videos, prompts)
    write_video(videos / "000.mp4", np.zeros((17, 96, 96, 3), np.uint8), 8)
    assert grade_videos(videos, prompts) == before
    (videos / "000.mkv").rename(videos / "000.MKV")
    assert grade_videos(videos, prompts).videos[0].grade == before.videos[0].grade


def test_mp4s_are_graded_where_there_are_no_others_but_not_among_them(videos: Path, prompts: Path) -> None:
    drawn = [frames for _, frames in draw_clips(COUNT, 0, held_out=True)]
    for index, frames in enumerate(drawn):
        (videos / f"{index:03d}.mkv").unlink()
        write_video(videos / f"{index:03d}.mp4", frames, 8)
        if index < COUNT - 1:
            with pytest.raises(VqError, match=r"000\.mkv is missing, and others are there"):
                grade_videos(videos, prompts)
    assert grade_videos(videos, prompts).videos[0].path.name == "000.mp4"


def test_json_has_no_infinity(videos: Path, prompts: Path) -> None:
    write_video(videos / "001.mkv", np.zeros((17, 96, 96, 3), np.uint8), 8)
    result = json.loads(json.dumps(grade_videos(videos, prompts).to_json(), allow_nan=False))
    assert result["videos"][0]["first_frame_db"] is None  # equal
    assert result["videos"][1]["shapes"][0]["miss"] is None  # lost
    assert result["videos"][1]["shapes_as_told"] == 0
    assert set(result["shares"]["speed"]) == {"value", "low", "high"}


def test_share_in_words() -> None:
    assert share_text(Share(0.971, 0.95, 0.986)) == "97.1 % (95.0 to 98.6)"


def empty(videos: Path) -> None:
    shutil.rmtree(videos)
    (videos / "full").mkdir(parents=True)


def black(frames: int, side: int) -> Callable[[Path], None]:
    return lambda videos: write_video(videos / "002.mkv", np.zeros((frames, side, side, 3), np.uint8), 8)


def another_caption(videos: Path) -> None:
    file = videos.parent / "prompts" / "samples.json"
    samples = json.loads(file.read_text())
    samples[1]["prompt"] = "a cat surfs"
    file.write_text(json.dumps(samples))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shutil.rmtree, "videos is not a folder"),
        (empty, "holds no .mkv or .mp4 video"),
        (lambda videos: (videos / "001.mkv").unlink(), "holds 2 videos and .* 3 prompts"),
        (lambda videos: shutil.copy(videos / "000.mkv", videos / "003.mkv"), "holds 4 videos and .* 3 prompts"),
        (lambda videos: (videos / "001.mkv").rename(videos / "cat.mkv"), "holds no video 001.mkv"),
        (black(17, 64), "002.mkv: a clip of 17 frames of 64x64"),
        (black(5, 96), "002.mkv: a clip of 5 frames of 96x96"),
        (another_caption, "001.mkv: `a cat surfs` in the prompt is not wan-tiny's language"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    videos: Path, prompts: Path, change: Callable[[Path], object], sentence: str
) -> None:
    change(videos)
    with pytest.raises(VqError, match=sentence):
        grade_videos(videos, prompts)
