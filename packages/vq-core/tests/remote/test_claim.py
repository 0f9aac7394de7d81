"""One writer at a time, and outputs that cannot be written."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

from vq_core.errors import VqError
from vq_core.remote.claim import MAX_NAME, alone, claimed


def test_a_second_command_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "out"
    with (
        claimed(output),
        pytest.raises(VqError, match=r"Another command is writing \S+/out: wait until it has ended, or choose another"),
        claimed(output),
    ):
        pass
    with claimed(output), claimed(output.with_name("other")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_stay_when_something_was_written(tmp_path: Path) -> None:
    with claimed(tmp_path / "new" / "out"):
        (tmp_path / "new" / "out").write_text("x")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with claimed(tmp_path / "out"):
            (tmp_path / "held").touch()
            time.sleep(60)
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(VqError, match="Another command"), claimed(tmp_path / "out"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with claimed(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["held"]


@pytest.mark.parametrize("name", ["out.partial", "sub/out.unverified"])
def test_refuses_the_name_of_something_unfinished(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(VqError, match="has the name of something unfinished"),
        claimed(tmp_path / name),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_text("mine"), Path.mkdir, lambda path: path.symlink_to("nowhere")],
    ids=["file", "folder", "link"],
)
def test_what_is_no_lock_of_ours_stays(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / ".out.lock")
    with (
        pytest.raises(VqError, match=r"\.out\.lock is in the way and is no lock"),
        claimed(tmp_path / "out"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]


def test_a_lock_that_a_kill_has_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").touch()
    with claimed(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_opened_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: FileLock, timeout: float) -> None:
        raise PermissionError(13, "Permission denied")  # as with an umask of 277; root may open everything

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.raises(VqError, match="cannot be written .Permission denied"),
        claimed(tmp_path / "new" / "out"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_after_the_other(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with alone(tmp_path / "locks" / "x.lock", "makes it"):
            order.append("second")

    with alone(tmp_path / "locks" / "x.lock", "makes it"):
        waiting = Thread(target=second)
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (".", r"`--output \.` does not name anything new: add a name, such as out\."),
        ("/", r"`--output /` does not name anything new: add a name, such as /out\."),
        ("..", "does not name anything new"),
        ("sub/..", "does not name anything new"),
        ("名" * 100, f"has a name of more than {MAX_NAME} bytes: choose a shorter --output"),
        ("sub/" * 1500 + "out", r"out cannot be written \(File name too long\): choose another --output"),
        ("file/out", r"file/out cannot be written \(.*\): choose another --output"),
        ("loop/out", r"loop/out cannot be written \(.*\): choose another --output"),
        ("/proc/out", r"/proc/out cannot be written \(.*\): choose another --output"),
    ],
)
def test_refuses_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(VqError, match=sentence), claimed(Path(name)):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]
