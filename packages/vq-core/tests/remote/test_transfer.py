"""Copies are what is there now, uploads are whole or invisible; on fsspec's filesystem in memory."""

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from vq_core.errors import VqError
from vq_core.remote.location import Uri, parse_location
from vq_core.remote.mirror import cache_folder
from vq_core.remote.transfer import deliver, exists, local_copy, local_output, refuse_existing, remove, staging_path

RUN = Uri("memory", "run")


pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture
def run(memory: MemoryFileSystem) -> Uri:
    """A folder of two files."""
    memory.pipe({"/run/manifest.json": b"{}", "/run/sub/block.bin": b"weights"})
    return RUN


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are copied to or from memory, in order."""
    seen: list[str] = []
    get, put = MemoryFileSystem.get_file, MemoryFileSystem.put_file

    def get_file(self: MemoryFileSystem, remote: str, local: str, **options: Any) -> None:
        seen.append(Path(remote).name)
        get(self, remote, local, **options)

    def put_file(self: MemoryFileSystem, local: str, remote: str, **options: Any) -> None:
        seen.append(Path(remote).name)
        put(self, local, remote, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    return seen


def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    (folder / "sub").mkdir(parents=True)
    for name in ("manifest.json", "a.bin", "sub/block.bin", ".resume.json"):
        (folder / name).write_text(name)
    return folder


# --- reading --------------------------------------------------------------------------------------


def test_a_path_is_its_own_copy(tmp_path: Path) -> None:
    assert local_copy(tmp_path) == tmp_path
    assert exists(tmp_path)
    assert not exists(tmp_path / "no")


def test_a_copy_has_the_bytes_that_are_there(run: Uri) -> None:
    folder = local_copy(run)
    assert (folder / "manifest.json").read_bytes() == b"{}"
    assert (folder / "sub" / "block.bin").read_bytes() == b"weights"
    assert exists(run)
    assert exists(run / "sub")
    assert not exists(run / "su")


def test_what_has_not_changed_is_copied_once(run: Uri, transfers: list[str]) -> None:
    local_copy(run)
    local_copy(run)
    assert sorted(transfers) == ["block.bin", "manifest.json"]


def test_what_has_changed_is_copied_again(run: Uri, memory: MemoryFileSystem, transfers: list[str]) -> None:
    local_copy(run)
    memory.pipe("/run/sub/block.bin", b"WEIGHTS")  # as long as before
    memory.pipe("/run/new.bin", b"new")
    transfers.clear()
    folder = local_copy(run)
    assert sorted(transfers) == ["block.bin", "new.bin"]
    assert (folder / "sub" / "block.bin").read_bytes() == b"WEIGHTS"


def test_what_is_gone_there_is_gone_here(run: Uri, memory: MemoryFileSystem) -> None:
    local_copy(run)
    memory.rm("/run/sub/block.bin")
    assert [path.name for path in local_copy(run).rglob("*") if path.is_file()] == ["manifest.json"]


def test_only_what_is_asked_for_is_copied(run: Uri, transfers: list[str]) -> None:
    assert (local_copy(run, only=["manifest.json"]) / "manifest.json").is_file()
    assert transfers == ["manifest.json"]
    local_copy(run, without=["*.bin"])
    assert transfers == ["manifest.json"]
    assert (local_copy(run, only=["nothing"])).is_dir()
    local_copy(run)
    assert transfers == ["manifest.json", "block.bin"]


def test_a_file_is_copied_too_and_lies_where_its_folder_has_it(run: Uri, transfers: list[str]) -> None:
    path = local_copy(run / "sub" / "block.bin")
    assert path.read_bytes() == b"weights"
    assert path == local_copy(run) / "sub" / "block.bin"
    assert transfers == ["block.bin", "manifest.json"]


def test_without_a_version_nothing_is_taken_for_unchanged(
    run: Uri, transfers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vq_core.remote.transfer.VERSION_KEYS", ())
    local_copy(run)
    local_copy(run)
    assert sorted(transfers) == ["block.bin", "block.bin", "manifest.json", "manifest.json"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(errno.EIO, "reset")])
def test_a_copy_that_breaks_off_never_looks_finished(
    run: Uri, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    def half(self: MemoryFileSystem, remote: str, local: str, **options: Any) -> None:
        Path(local).write_bytes(self.cat_file(remote)[:1])
        raise interruption

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, VqError)):
        patch.setattr(MemoryFileSystem, "get_file", half)
        local_copy(run)
    left = [path for path in (cache_folder() / "files").rglob("*") if path.is_file()]
    assert left
    assert all(path.name.startswith(".") for path in left)
    folder = local_copy(run)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["block.bin", "manifest.json"]
    assert (folder / "sub" / "block.bin").read_bytes() == b"weights"


def test_a_file_that_arrives_short_is_refused(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda self, remote, local, **_: Path(local).write_bytes(b"w"))
    with pytest.raises(VqError, match=r"memory://run could not be read \(/run/.* arrived with 1 bytes of"):
        local_copy(run)


def test_refuses_what_is_not_there() -> None:
    with pytest.raises(VqError, match="There is nothing at memory://run: check the address"):
        local_copy(RUN)


def test_refuses_an_unknown_protocol() -> None:
    with pytest.raises(VqError, match=r"xyz://a/b cannot be opened \(Protocol not known: xyz\)"):
        exists(parse_location("xyz://a/b"))


@pytest.mark.parametrize(("protocol", "module", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_names_the_package_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, protocol: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(_registry, protocol, raising=False)
    with pytest.raises(VqError, match=rf"is not installed: `pip install vq-core\[{extra}\]`"):
        local_copy(Uri(protocol, "bucket/run"))


def test_refuses_a_file_that_leads_out_of_the_folder(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"/run/../../x": {"type": "file", "size": 1}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: entry)
    with pytest.raises(VqError, match=r"memory://run holds \.\./\.\./x, which leads out of it"):
        local_copy(run)


def test_a_full_disk_names_the_cache_and_how_to_move_it(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: MemoryFileSystem, remote: str, local: str, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), local)

    monkeypatch.setattr(MemoryFileSystem, "get_file", full)
    with pytest.raises(VqError, match=r"No space is left in .*cache/remote for memory://run: .* set VQ_CACHE"):
        local_copy(run)


def test_a_bug_stays_a_bug(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: Any, **__: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(MemoryFileSystem, "get_file", buggy)
    with pytest.raises(KeyError):
        local_copy(run)


HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_waits_for_another_process(run: Uri, caplog: pytest.LogCaptureFixture) -> None:
    path = cache_folder() / "locks" / "memory" / "run.lock"
    path.parent.mkdir(parents=True)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        timer = threading.Timer(0.2, other.stdin.close)
        timer.start()
        with caplog.at_level(logging.WARNING):
            assert (local_copy(run) / "manifest.json").is_file()
        timer.join()
    assert "Waiting for another process that copies memory://run" in caplog.text


# --- writing --------------------------------------------------------------------------------------


def test_a_path_is_its_own_output(tmp_path: Path) -> None:
    with local_output(tmp_path / "a") as path:
        assert path == tmp_path / "a"
    assert staging_path(tmp_path / "a") == tmp_path / "a"
    assert deliver(built(tmp_path), tmp_path / "final", advice="") == tmp_path / "final"
    assert (tmp_path / "final" / "a.bin").is_file()


def test_what_makes_a_folder_complete_goes_last(tmp_path: Path, memory: MemoryFileSystem, transfers: list[str]) -> None:
    deliver(built(tmp_path), RUN, last="manifest.json", advice="")
    assert transfers[-1] == "manifest.json"
    assert sorted(memory.find("/run")) == ["/run/a.bin", "/run/manifest.json", "/run/sub/block.bin"]
    assert memory.cat("/run/sub/block.bin") == b"sub/block.bin"


def test_what_was_uploaded_is_not_downloaded_again(tmp_path: Path, transfers: list[str]) -> None:
    there = deliver(built(tmp_path), RUN, last="manifest.json", advice="")
    assert not (tmp_path / "built").exists()
    transfers.clear()
    assert local_copy(RUN) == there
    assert transfers == []


def test_an_upload_that_fails_leaves_what_was_built_and_nothing_complete(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built(tmp_path)
    put = MemoryFileSystem.put_file

    def failing(self: MemoryFileSystem, local: str, remote: str, **options: Any) -> None:
        if remote.endswith("block.bin"):
            raise OSError(errno.EIO, "Slow down")
        put(self, local, remote, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", failing)
    with pytest.raises(VqError, match=r"memory://run could not be written \(.*Slow down\): copy it by hand"):
        deliver(folder, RUN, last="manifest.json", advice="copy it by hand")
    assert not memory.exists("/run/manifest.json")
    assert (folder / "manifest.json").is_file()


def test_what_did_not_arrive_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda self, local, remote, **_: self.pipe(remote, b"x"))
    with pytest.raises(VqError, match="is not there as it was sent"):
        deliver(built(tmp_path), RUN, last="manifest.json", advice="")


def test_an_output_is_uploaded_when_the_block_has_ended(memory: MemoryFileSystem) -> None:
    video = Uri("memory", "videos/cat.mp4")
    with local_output(video) as path:
        path.write_bytes(b"video")
        assert path.name == "cat.mp4"
        assert not exists(video)
    assert memory.cat("/videos/cat.mp4") == b"video"
    assert not path.exists()


def test_an_output_that_fails_leaves_nothing(memory: MemoryFileSystem) -> None:
    with pytest.raises(KeyError), local_output(RUN) as path:
        path.mkdir()
        (path / "half").write_bytes(b"half")
        raise KeyError
    assert not path.exists()
    assert memory.find("/") == []


def test_refuses_an_output_that_is_there(run: Uri) -> None:
    with pytest.raises(VqError, match="memory://run exists already: choose another --output"), local_output(run):
        pass
    with pytest.raises(VqError, match="choose another --heat-map"):
        refuse_existing(run, "--heat-map")


def test_removes_a_folder_and_its_copy(run: Uri, tmp_path: Path) -> None:
    folder = local_copy(run)
    remove(run)
    assert not exists(run)
    assert not folder.exists()
    remove(built(tmp_path))
    assert not (tmp_path / "built").exists()


def test_what_fails_at_once_is_asked_for_again(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"weights")
    find, failures = MemoryFileSystem.find, [OSError("garbage"), OSError("garbage")]

    def fail_twice(self: MemoryFileSystem, path: str, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return find(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "find", fail_twice)
    assert deliver(tmp_path / "x", Uri("memory", "x"), advice="").read_bytes() == b"weights"
    failures.append(OSError("garbage"))
    assert local_copy(Uri("memory", "x")).read_bytes() == b"weights"
    failures += [OSError("garbage")] * 3
    with pytest.raises(VqError, match=r"memory://y could not be written \(garbage\): kept here"):
        deliver(tmp_path / "x", Uri("memory", "y"), advice="kept here")
