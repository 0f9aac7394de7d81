"""One folder of videos, written by one process or by several."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_core.artifacts import videos as module
from vq_core.artifacts.videos import (
    FORMAT,
    KIND,
    Summary,
    VideoFiles,
    VideoRecord,
    VideosWriter,
    create_videos,
    describe,
)
from vq_core.errors import Unfinished, VqError
from vq_core.runtime.process import ALONE, Process
from vq_core.sampling.prompts import Sample
from vq_core.store.reader import open_artifact
from vq_core.store.resumable_folder import partial_folder
from vq_core.store.writer import ComponentHeader, Header

FRAMES = np.zeros((2, 16, 16, 3), np.uint8)
VARIANTS = ("full", "floor")


@pytest.fixture
def header() -> Header:
    components = {"transformer": ComponentHeader("transformer", "f", {})}
    return Header(KIND, FORMAT, tool="test", family="wan", model="m", components=components)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that run one after another: nobody waits."""

    @contextmanager
    def joined() -> Iterator[None]:
        yield

    monkeypatch.setattr(module, "joined", joined)
    monkeypatch.setattr(module, "wait_for_all", lambda: None)


def write_pending(videos: VideosWriter, seconds: float = 1.0) -> list[tuple[str, int]]:
    written = [(variant, index) for variant in VARIANTS for index in videos.pending(variant)]
    for variant, index in written:
        kernel = "math" if variant == "floor" else "flash"
        record = VideoRecord(seconds=seconds + index, attention=[kernel])
        videos.draft(variant, index).write(FRAMES + index, 8, record)
        videos.adopt(variant, index)
    return written


def test_the_manifest_says_how_long_a_video_takes_and_which_attention_ran(tmp_path: Path, header: Header) -> None:
    with create_videos(tmp_path / "videos", header, VARIANTS, 3, process=ALONE, resume=False) as videos:
        assert len(write_pending(videos)) == 6
    assert videos.noted["full"] == Summary(2.0, ("flash",), 0)
    measured = open_artifact(tmp_path / "videos", KIND, FORMAT).manifest.measured
    assert measured == {
        "seconds_per_video": {"full": 2.0, "floor": 2.0},
        "attention": {"full": ["flash"], "floor": ["math"]},
        "cached": {"full": 0, "floor": 0},
    }
    files = {path.name for path in (tmp_path / "videos" / "full").iterdir()}
    assert files == {f"00{index}.{suffix}" for index in range(3) for suffix in ("mkv", "mp4", "json")}


@pytest.mark.usefixtures("together")
def test_processes_share_the_prompts_out_and_the_first_completes(tmp_path: Path, header: Header) -> None:
    path = tmp_path / "videos"
    with create_videos(path, header, VARIANTS, 3, process=Process(0, 2), resume=False) as first:
        mine = write_pending(first)
        with create_videos(path, header, VARIANTS, 3, process=Process(1, 2), resume=False) as second:
            theirs = write_pending(second)
        assert not path.exists()
    assert mine == [("full", 0), ("full", 2), ("floor", 0), ("floor", 2)]
    assert theirs == [("full", 1), ("floor", 1)]
    assert (second.noted, first.noted["full"].seconds) == ({}, 2.0)
    assert len(open_artifact(path, KIND, FORMAT).manifest.files) == 18


@pytest.mark.usefixtures("together")
def test_what_several_have_begun_one_can_end(tmp_path: Path, header: Header) -> None:
    path = tmp_path / "videos"
    with (
        pytest.raises(Unfinished, match="gone"),
        create_videos(path, header, VARIANTS, 3, process=Process(0, 2), resume=False) as first,
    ):
        write_pending(first)
        raise VqError("the other is gone")  # a mistake, but others may be writing: nothing is removed
    assert partial_folder(path).is_dir()
    with create_videos(path, header, VARIANTS, 3, process=ALONE, resume=True) as alone:
        assert alone.resumed == 4
        assert write_pending(alone) == [("full", 1), ("floor", 1)]


@pytest.mark.usefixtures("together")
def test_a_process_that_does_not_see_the_folder_is_told(tmp_path: Path, header: Header) -> None:
    with (
        pytest.raises(VqError, match=r"videos.partial, which the first process created, is not here"),
        create_videos(tmp_path / "videos", header, VARIANTS, 3, process=Process(1, 2), resume=False),
    ):
        pass


def test_the_lossless_video_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(module, "write_video", lambda path, frames, fps: order.append(path.suffix))
    monkeypatch.setattr(module, "write_bytes", lambda path, content: order.append(path.suffix))
    VideoFiles(tmp_path / "000.mkv").write(FRAMES, 8, VideoRecord(seconds=1, attention=[]))
    assert order == [".mp4", ".json", ".mkv"]


def test_a_record_survives(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "000.mkv")
    record = VideoRecord(seconds=1.5, attention=["cudnn", "math"], cached=True)
    files.write(FRAMES, 8, record)
    assert files.read_record() == record


def test_summaries_in_words() -> None:
    records = [VideoRecord(seconds=seconds, attention=["flash"], cached=seconds < 2) for seconds in (1, 2, 30)]
    assert Summary.of(records).text() == "2.0 s each, flash attention, 1 from the cache"
    assert Summary(3.0, (), 0).text() == "3.0 s each, unknown attention"


def test_a_sample_in_the_manifest(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    said = describe(Sample("p", "n", reference_images=(tmp_path / "a.png",)))
    assert said == {"prompt": "p", "negative_prompt": "n", "image": None, "reference_images": [digest]}
    assert describe(Sample("p", image=tmp_path / "a.png"))["image"] == digest
