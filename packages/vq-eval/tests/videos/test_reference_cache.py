"""What is kept is what was put there, or it is made again."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.artifacts.videos import VideoFiles, VideoRecord
from vq_core.errors import VqError
from vq_core.remote.mirror import user_cache
from vq_eval.videos.reference_cache import ENTRY_FILE, LOSSLESS, TO_LOOK_AT, ReferenceCache, open_cache

IDENTITY: dict[str, Any] = {"seed": 42, "guidance": 5.0, "prompt": {"prompt": "猫", "image": None}}
RECORD = VideoRecord(seconds=3.5, attention=["flash"])


@pytest.fixture
def cache(tmp_path: Path) -> ReferenceCache:
    return ReferenceCache(tmp_path / "cache")


@pytest.fixture
def made(tmp_path: Path) -> VideoFiles:
    files = VideoFiles(tmp_path / "made" / "000.mkv")
    files.write(np.zeros((2, 16, 16, 3), np.uint8), 8, RECORD)
    return files


def taken(cache: ReferenceCache, tmp_path: Path, identity: dict[str, Any] = IDENTITY) -> VideoFiles | None:
    files = VideoFiles(tmp_path / "taken" / "007.mkv")
    return files if cache.take(identity, files) else None


def test_what_was_put_is_taken(cache: ReferenceCache, made: VideoFiles, tmp_path: Path) -> None:
    assert taken(cache, tmp_path) is None
    cache.put(IDENTITY, made)
    files = taken(cache, tmp_path)
    assert files is not None
    assert files.lossless.read_bytes() == made.lossless.read_bytes()
    assert files.to_look_at.read_bytes() == made.to_look_at.read_bytes()
    assert files.read_record() == RECORD.model_copy(update={"cached": True})
    assert {path.name for path in files.lossless.parent.iterdir()} == {"007.mkv", "007.mp4", "007.json"}


@pytest.mark.parametrize("change", [{"seed": 43}, {"guidance": 5.5}, {"prompt": {"prompt": "狗", "image": None}}])
def test_what_depends_on_something_else_is_not(
    change: dict[str, Any], cache: ReferenceCache, made: VideoFiles, tmp_path: Path
) -> None:
    cache.put(IDENTITY, made)
    assert taken(cache, tmp_path, IDENTITY | change) is None


def test_a_copy_that_is_changed_leaves_the_kept_one(cache: ReferenceCache, made: VideoFiles, tmp_path: Path) -> None:
    cache.put(IDENTITY, made)
    files = taken(cache, tmp_path)
    assert files is not None
    files.lossless.write_bytes(b"written over")
    made.lossless.write_bytes(b"this one too")
    assert taken(cache, tmp_path) is not None


@pytest.mark.parametrize("name", [LOSSLESS, TO_LOOK_AT])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_video_is_not_taken_and_can_be_put_again(
    name: str, damage: str, cache: ReferenceCache, made: VideoFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(IDENTITY, made)
    (path,) = cache.folder.rglob(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[:-1])
    assert taken(cache, tmp_path) is None
    assert "is not what was put there: the video is made again" in caplog.text
    cache.put(IDENTITY, made)
    assert taken(cache, tmp_path) is not None


@pytest.mark.parametrize("content", ["", "{}", '{"identity": '])
def test_an_entry_that_cannot_be_read_is_made_again(
    content: str, cache: ReferenceCache, made: VideoFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(IDENTITY, made)
    (path,) = cache.folder.rglob(ENTRY_FILE)
    path.write_text(content)
    assert taken(cache, tmp_path) is None
    assert "entry.json is damaged" in caplog.text


def test_an_entry_of_something_else_is_not_taken(cache: ReferenceCache, made: VideoFiles, tmp_path: Path) -> None:
    cache.put(IDENTITY, made)
    (path,) = cache.folder.rglob(ENTRY_FILE)
    entry = json.loads(path.read_text())
    entry["identity"]["seed"] = 1
    path.write_text(json.dumps(entry))
    assert taken(cache, tmp_path) is None


def test_a_full_disk_costs_the_cache_and_not_the_run(
    cache: ReferenceCache, made: VideoFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vq_eval.videos.reference_cache.shutil.copyfile", full)
        cache.put(IDENTITY, made)
    assert "could not be kept in the cache" in caplog.text
    assert taken(cache, tmp_path) is None
    assert not [path for path in cache.folder.rglob("*") if path.is_file()]


def test_of_several_runs_one_makes_a_video(cache: ReferenceCache, tmp_path: Path) -> None:
    made: list[str] = []

    def run(name: str) -> None:
        mine = ReferenceCache(cache.folder)  # its own handle on the lock, as another process has
        files = VideoFiles(tmp_path / name / "000.mkv")
        with mine.alone(IDENTITY):
            if not mine.take(IDENTITY, files):
                files.write(np.zeros((2, 16, 16, 3), np.uint8), 8, RECORD)
                made.append(name)
                mine.put(IDENTITY, files)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, "abcd"))
    assert len(made) == 1
    assert len(list(tmp_path.glob("?/000.mkv"))) == 4


def test_where_it_is(tmp_path: Path) -> None:
    kept, usual = open_cache(tmp_path / "c", no_cache=False), open_cache(None, no_cache=False)
    assert kept is not None
    assert usual is not None
    assert (kept.folder, usual.folder) == (tmp_path / "c", user_cache() / "references")
    assert open_cache(None, no_cache=True) is None
    with pytest.raises(VqError, match="`--cache` and `--no-cache` contradict each other"):
        open_cache(tmp_path, no_cache=True)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VqError, match="cannot keep references .*: name another folder with --cache, or .* --no-cache"):
        ReferenceCache(tmp_path / "file" / "cache")
