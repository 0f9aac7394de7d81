"""A copy counts only when it is whole and of the version that is there."""

from pathlib import Path

import pytest
from platformdirs import user_cache_path

from vq_core.remote.location import Uri
from vq_core.remote.mirror import Mirror, RemoteFile, cache_folder

FILE = RemoteFile("bucket/run/a", 3, "etag 1")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    monkeypatch.setenv("VQ_CACHE", str(tmp_path))
    return Mirror(Uri("s3", "bucket/run"))


def put(mirror: Mirror, name: str) -> None:
    mirror.draft(name).parent.mkdir(parents=True, exist_ok=True)
    mirror.draft(name).write_text("abc")
    mirror.publish(name, "etag 1")


def test_the_cache_is_the_user_s_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VQ_CACHE", raising=False)
    assert cache_folder() == user_cache_path("vq", appauthor=False) / "remote"


def test_a_copy_has_its_address_as_its_path(mirror: Mirror, tmp_path: Path) -> None:
    put(mirror, "sub/a")
    assert mirror.path("sub/a") == tmp_path / "remote" / "files" / "s3" / "bucket" / "run" / "sub" / "a"
    assert mirror.path("sub/a").read_text() == "abc"


def test_only_the_noted_version_and_size_count(mirror: Mirror) -> None:
    assert not mirror.has("a", FILE)
    put(mirror, "a")
    assert mirror.has("a", FILE)
    assert not mirror.has("a", RemoteFile(FILE.path, 3, "etag 2"))
    assert not mirror.has("a", RemoteFile(FILE.path, 4, "etag 1"))
    assert not mirror.has("a", RemoteFile(FILE.path, 3, None))


def test_a_folder_may_become_a_file_and_a_file_a_folder(mirror: Mirror) -> None:
    put(mirror, "a")
    mirror.keep_only([""])
    put(mirror, "")
    assert mirror.has("", FILE)
    mirror.keep_only(["a"])
    put(mirror, "a")
    assert mirror.has("a", FILE)


def test_what_was_uploaded_becomes_the_copy(mirror: Mirror, tmp_path: Path) -> None:
    put(mirror, "old")
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "a").write_text("abc")
    assert mirror.adopt(tmp_path / "built", {"a": FILE}) == mirror.path("")
    assert not (tmp_path / "built").exists()
    assert mirror.has("a", FILE)
    assert not mirror.has("old", FILE)
    mirror.remove()
    assert not mirror.path("").exists()
