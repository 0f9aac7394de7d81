"""The same against an S3 server, a process of its own, as users reach theirs: through the environment alone."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from vq_core.errors import VqError
from vq_core.remote import transfer
from vq_core.remote.location import Uri, parse_location
from vq_core.remote.transfer import LIMITS, deliver, exists, local_copy, refuse_existing


@pytest.fixture
def run(bucket: str, tmp_path: Path) -> Uri:
    """A folder of two files in the bucket, uploaded from here."""
    folder = tmp_path / "built"
    (folder / "sub").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "sub" / "block.bin").write_bytes(b"weights")
    uri = parse_location(f"{bucket}/run/stats")
    assert isinstance(uri, Uri)
    deliver(folder, uri, last="manifest.json", advice="")
    return uri


def test_up_and_down_again(run: Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exists(run)
    assert not exists(run / "no")
    monkeypatch.setenv("VQ_CACHE", str(tmp_path / "another machine"))
    folder = local_copy(run)
    assert (folder / "sub" / "block.bin").read_bytes() == b"weights"
    assert (folder / "manifest.json").read_text() == "{}"


def test_a_neighbour_with_a_longer_name_is_not_part_of_it(run: Uri) -> None:
    S3FileSystem().pipe(f"{run.path}-2/x", b"x")
    assert sorted(path.name for path in local_copy(run).rglob("*") if path.is_file()) == ["block.bin", "manifest.json"]


def test_a_file_of_another_content_and_the_same_length_is_copied_again(run: Uri) -> None:
    S3FileSystem().pipe(f"{run.path}/sub/block.bin", b"WEIGHTS")
    assert (local_copy(run) / "sub" / "block.bin").read_bytes() == b"WEIGHTS"


def test_nothing_is_fetched_where_nothing_has_changed(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(S3FileSystem, "_get_file", fetched)
    assert (local_copy(run) / "manifest.json").is_file()


def test_refuses_a_bucket_that_is_not_there(bucket: str) -> None:
    missing = parse_location("s3://no-such-bucket/run")
    with pytest.raises(VqError, match=r"s3://no-such-bucket/run could not be read \(there is no such bucket"):
        local_copy(missing)
    with pytest.raises(VqError, match="There is no bucket no-such-bucket for s3://no-such-bucket/run: make it"):
        refuse_existing(missing)


def test_refuses_a_key_that_is_not_there(bucket: str) -> None:
    with pytest.raises(VqError, match=rf"There is nothing at {bucket}/no: check the address"):
        local_copy(parse_location(f"{bucket}/no"))


def test_says_that_there_are_no_credentials(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(VqError, match=r"\(no credentials were found\): set AWS_ACCESS_KEY_ID"):
        local_copy(run)


@pytest.fixture
def checked_credentials(s3_server: str) -> Iterator[None]:
    """The server checks who asks, as it does not otherwise."""

    def checks_after(requests: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        asked = urllib.request.Request(f"{s3_server}/moto-api/reset-auth", data=requests, headers=headers)
        urllib.request.urlopen(asked).close()

    checks_after(b"0")
    yield
    checks_after(b"inf")


def test_says_that_access_is_denied(run: Uri, checked_credentials: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VqError, match=r"could not be read \(access is denied\): check the credentials"):
        local_copy(run)
    with pytest.raises(VqError, match=r"could not be written \(access is denied\): copy it"):
        deliver(tmp_path / "file", Uri("s3", f"{run.path}-2"), advice="copy it")


def test_says_that_the_server_does_not_answer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(VqError, match=r"Could not connect to the endpoint.*: check the address, the network and AWS_E"):
        local_copy(parse_location(f"{bucket}/run"))


@pytest.fixture
def silent(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes connections and nothing else, and little patience."""
    quick = {"config_kwargs": LIMITS["config_kwargs"] | {"read_timeout": 0.1}}
    monkeypatch.setattr(transfer, "LIMITS", quick)
    monkeypatch.setattr(transfer, "SILENCE_S", 0.1)
    monkeypatch.setattr(transfer, "SLOWEST", 1 << 30)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        S3FileSystem.clear_instance_cache()
        yield


@pytest.mark.usefixtures("silent")
def test_gives_up_on_a_server_that_is_silent(bucket: str) -> None:
    with pytest.raises(VqError, match=r"s3://\S+/x could not be read \(Read timeout on endpoint URL"):
        exists(parse_location(f"{bucket}/x"))


@pytest.mark.usefixtures("silent")
def test_gives_up_on_a_server_that_takes_nothing(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"weights")
    with pytest.raises(VqError, match=r"s3://\S+/x could not be written \(\S+/x did not arrive in twice 0 s\): kept"):
        deliver(tmp_path / "x", parse_location(f"{bucket}/x"), advice="kept here")
