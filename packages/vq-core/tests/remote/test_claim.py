"""One writer at a time, and outputs that cannot be written."""

import os
import signal
import time
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.remote.claim import MAX_NAME, claimed


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
