"""What is left by a run that was stopped."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.files.tensor_file import sha256_of
from vq_core.store.journal import begin_journal, read_journals
from vq_core.store.resumable_folder import (
    RESUME_FILE,
    begin,
    check_resumable,
    files_in,
    forget,
    partial_folder,
    take_up,
    tidy,
)

BLOCKS = ("transformer/block_0.safetensors", "transformer/block_1.safetensors", "totals-1/block_0.safetensors")
BEGAN = {"model": "wan", "settings": {"steps": 40}}


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """Three finished files, and what a kill has left of others."""
    folder = partial_folder(tmp_path / "stats")
    begin(folder, BEGAN)
    for name in (*BLOCKS, "transformer/.block_2.safetensors.tmp", "manifest.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    begin_journal(folder, {name: sha256_of(folder / name) for name in BLOCKS})
    return folder


def test_only_the_run_that_began_it_goes_on(partial: Path, tmp_path: Path) -> None:
    check_resumable(partial, BEGAN, True, tmp_path / "stats")
    with pytest.raises(VqError, match=r"stats\.partial is left from an interrupted run: continue it with --resume"):
        check_resumable(partial, BEGAN, False, tmp_path / "stats")
    with pytest.raises(VqError, match=r"stats\.partial was begun with other settings: run the same command again"):
        check_resumable(partial, BEGAN | {"settings": {"steps": 50}}, True, tmp_path / "stats")


def test_unfinished_files_are_removed_and_finished_ones_kept(partial: Path) -> None:
    take_up(partial, ())
    left = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
    assert left == sorted([".journal-0.jsonl", RESUME_FILE, *BLOCKS])
    assert files_in(partial) == sorted(BLOCKS)


def test_a_file_that_is_gone_is_made_again(partial: Path) -> None:
    (partial / BLOCKS[0]).unlink()
    take_up(partial, ())
    assert BLOCKS[0] not in read_journals(partial)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def _swap(partial: Path) -> None:
    first, second = (partial / name for name in BLOCKS[:2])
    first.rename(partial / "away")
    second.rename(first)
    (partial / "away").rename(second)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DIFFERS = r"block_0\.safetensors is not the file that was written \(its SHA-256 differs\): remove"
NO_FILE = r"block_0\.safetensors is not the file that was written, but a folder, a link or the like: remove it and run"
FOREIGN = "was not written by the run that is resumed: move it away and run the same command again"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda partial: _flip(partial / BLOCKS[0]), f"{DIFFERS} it and run the same command again with --resume"),
        (_swap, f"{DIFFERS} it and"),
        (lambda partial: os.truncate(partial / BLOCKS[0], 5), DIFFERS),
        (lambda partial: _flip(partial / BLOCKS[2]), rf"{DIFFERS} \S+stats\.partial and run the same command again\.$"),
        (lambda partial: _replace(partial / BLOCKS[0], Path.mkdir), NO_FILE),
        (lambda partial: _replace(partial / BLOCKS[0], os.mkfifo), NO_FILE),
        (lambda partial: _replace(partial / BLOCKS[0], lambda it: it.symlink_to(partial / BLOCKS[1])), NO_FILE),
        (lambda partial: _replace(partial / BLOCKS[0], lambda it: it.symlink_to(it)), NO_FILE),
        (lambda partial: (partial / "transformer/block_3.safetensors").write_text("x"), f"block_3.* {FOREIGN}"),
        (lambda partial: (partial / "README.md").write_text("x"), f"README.* {FOREIGN}"),
        (lambda partial: os.mkfifo(partial / "pipe"), f"pipe {FOREIGN}"),
        (lambda partial: (partial / BLOCKS[0]).rename(partial / "transformer/block_4.safetensors"), FOREIGN),
        (lambda partial: (partial / ".journal-0.jsonl").write_text(""), FOREIGN),
        (
            lambda partial: (partial / ".journal-0.jsonl").unlink(),
            r"stats\.partial was begun by an earlier version, which noted no digests .*: remove it and run the same",
        ),
    ],
)
def test_refuses_what_is_not_as_it_was_written(partial: Path, damage: Callable[[Path], object], sentence: str) -> None:
    damage(partial)
    with pytest.raises(VqError, match=sentence):
        take_up(partial, ("totals-*",))


def test_a_socket_is_no_file_either(partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(partial)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(VqError, match=f"socket {FOREIGN}"):
            take_up(partial, ())


def test_nothing_tells_how_to_resume_what_is_complete(partial: Path) -> None:
    shutil.copy(partial / ".journal-0.jsonl", partial / ".journal-1.jsonl")
    forget(partial)
    assert not list(partial.glob(".*"))


def test_what_a_kill_has_left_in_a_complete_folder_is_removed(partial: Path) -> None:
    (partial / "manifest.json").unlink()
    tidy(partial)
    assert (partial / RESUME_FILE).exists()  # not complete
    (partial / "manifest.json").touch()
    (partial / ".journal-0.jsonl").unlink()
    tidy(partial)
    assert not (partial / RESUME_FILE).exists()
    assert files_in(partial) != []
    tidy(partial.with_name("nothing"))
