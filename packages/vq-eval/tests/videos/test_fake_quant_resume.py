"""Runs that crash or are killed and are resumed, and runs of several processes."""

import hashlib
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.artifacts import videos as videos_artifact
from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.recipes.recipe import Variant as Candidate
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.store.reader import open_artifact
from vq_core.store.resumable_folder import partial_folder
from vq_core.testing.tiny_models import Variant
from vq_eval.videos.fake_quant import Candidates

ALL: tuple[Candidate, ...] = ("full", "smoothed", "fake-quant")

MakeJob = Callable[[Variant], Any]
StartCode = Callable[[str], Any]
StartRanks = Callable[..., list[Any]]


def contents(folder: Path) -> dict[str, object]:
    """SHA-256 of every video below `folder`, and the manifest without what differs from run to run: the times."""
    videos = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".json"
    }
    manifest = open_artifact(folder, KIND, FORMAT).manifest.model_dump(exclude={"measured"})
    files = {name: entry for name, entry in manifest.pop("files").items() if not name.endswith(".json")}
    return {**videos, "manifest": manifest, "files": files}


class Crash(RuntimeError):
    """Stands for a crash."""


def interrupt(work: Any, videos: int) -> None:
    """Let a run crash when `videos` lossless videos are written."""
    write = videos_artifact.write_video
    written: list[Path] = []

    def write_some(path: Path, frames: np.ndarray, fps: int) -> None:
        if len(written) == videos:
            raise Crash
        write(path, frames, fps)
        if path.suffix == ".mkv":
            written.append(path)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(videos_artifact, "write_video", write_some)
        work.run()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Records how many prompts are encoded and to which variants the transformers are turned."""
    seen: list[object] = []
    encode, apply = VideoPipeline.encode, Candidates.apply

    def encode_watched(self: VideoPipeline, samples, sampling):  # type: ignore[no-untyped-def]
        seen.append([sample.prompt[-1] for sample in samples])
        return encode(self, samples, sampling)

    def apply_watched(self: Candidates, variant, transformers, device):  # type: ignore[no-untyped-def]
        seen.append(variant)
        apply(self, variant, transformers, device)

    monkeypatch.setattr(VideoPipeline, "encode", encode_watched)
    monkeypatch.setattr(Candidates, "apply", apply_watched)
    return seen


@pytest.mark.parametrize(
    ("finished", "done_again"), [(3, [["0", "1"], "smoothed", "fake-quant"]), (5, [["1"], "fake-quant"])]
)
def test_a_resumed_run_loads_only_what_the_missing_videos_need(
    job: MakeJob, whole: Path, watched: list[object], finished: int, done_again: list[object]
) -> None:
    work = job("t2v")
    work.asked = ALL
    interrupt(work, finished)
    watched.clear()
    assert work.run(resume=True).resumed_videos == finished
    assert watched == done_again
    assert contents(work.output) == contents(whole)


def test_with_every_video_there_nothing_is_loaded(
    job: MakeJob, one_prompt: Path, watched: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job("t2v")
    work.asked, work.prompts = ["full"], one_prompt

    def crash(self: object, final: Path) -> None:
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr("vq_core.store.writer.ArtifactWriter.commit", crash)
        work.run()
    watched.clear()
    monkeypatch.setattr(VideoPipeline, "transformers", property(crash))
    assert work.run(resume=True).resumed_videos == 1
    assert not watched
    assert (work.output / "full" / "000.mkv").exists()


KILLED_WHILE_WRITING = """
import os, signal
from pathlib import Path
from vq_core.media import video
from vq_eval.cli import main

ffmpeg = video._ffmpeg

def killed(*arguments, stdin=None):
    path = Path(arguments[-1])
    if "001" in path.name and path.suffix == ".mkv":
        path.write_bytes(b"half a video")
        os.kill(os.getpid(), signal.SIGKILL)
    return ffmpeg(*arguments, stdin=stdin)

video._ffmpeg = killed
main()
"""


def test_killed_while_a_video_is_written(job: MakeJob, whole: Path, start_code: StartCode) -> None:
    work = job("t2v")
    work.asked = ALL
    assert start_code(work.code() + KILLED_WHILE_WRITING).ended(240) == -signal.SIGKILL
    assert not work.output.exists()
    assert work.run(resume=True).resumed_videos == 1
    assert contents(work.output) == contents(whole)


def test_killed_after_the_first_video(job: MakeJob, whole: Path, start_code: StartCode) -> None:
    work = job("t2v")
    work.asked = ALL
    started = start_code(work.code() + "from vq_eval.cli import main; main()")
    first = partial_folder(work.output) / "full" / "000.mkv"
    while not first.exists():
        assert started.process.is_alive(), "ended before its first video"
        time.sleep(0.01)
    started.process.kill()
    assert started.ended(60) == -signal.SIGKILL
    assert not work.output.exists()
    assert 1 <= work.run(resume=True).resumed_videos < 6
    assert contents(work.output) == contents(whole)


def test_an_interrupted_run_is_continued_only_when_asked_and_unchanged(job: MakeJob, one_prompt: Path) -> None:
    work = job("t2v")
    work.prompts, work.asked = one_prompt, ["full"]
    interrupt(work, 0)
    work.refused("continue it with --resume")
    work.sampling = replace(work.sampling, steps=3)
    work.refused("was begun with other settings", resume=True)


def test_two_processes_give_the_videos_of_one(job: MakeJob, whole: Path, start_ranks: StartRanks) -> None:
    work = job("t2v")
    work.asked = ALL
    # torchrun starts `python -m vq_eval`.
    code = work.code() + "import runpy; runpy.run_module('vq_eval', run_name='__main__')"
    ranks = start_ranks(code, code)
    for rank in ranks:
        assert rank.ended(400) == 0, rank.stderr
    assert [rank.stdout.count("Videos of each variant") for rank in ranks] == [1, 0]
    assert contents(work.output) == contents(whole)
