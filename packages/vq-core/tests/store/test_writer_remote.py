"""An artifact at a URI: built here, complete there or not there, and read as any other; on memory's filesystem."""

from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from vq_core.errors import VqError
from vq_core.remote.location import Uri
from vq_core.remote.transfer import staging_path
from vq_core.store.manifest import FILE_NAME
from vq_core.store.reader import Artifact, open_artifact
from vq_core.store.resumable_folder import RESUME_FILE, partial_folder
from vq_core.store.writer import ComponentHeader, Header, create_artifact

KIND, FORMAT = "test-kind", 3
URI = Uri("memory", "store/artifact")
HEADER = Header(KIND, FORMAT, "test 1", "wan", "org/model", {"transformer": ComponentHeader("", "fingerprint", {})})


pytestmark = pytest.mark.usefixtures("memory")


def write(header: Header = HEADER, *, resume: bool = False) -> None:
    with create_artifact(URI, header, resume=resume) as writer:
        if not writer.has("block_0.safetensors"):
            writer.write_tensors("block_0.safetensors", {"x": torch.ones(2)})
        writer.write_text("run.sh", "echo")


def reopen() -> Artifact:
    return open_artifact(URI, KIND, FORMAT)


def fail_uploads_of(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = MemoryFileSystem.put_file

    def put_file(self: MemoryFileSystem, local: str, remote: str, **options: Any) -> None:
        if remote.endswith(name):
            raise PermissionError
        put(self, local, remote, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)


def test_it_is_there_whole_and_nothing_is_left_here(memory: MemoryFileSystem) -> None:
    write()
    names = ["block_0.safetensors", FILE_NAME, "run.sh"]
    assert sorted(memory.find("/store")) == sorted(f"/store/artifact/{name}" for name in names)
    assert not partial_folder(staging_path(URI)).exists()
    artifact = reopen()
    assert torch.equal(artifact.tensors("transformer", ["x"])["x"], torch.ones(2))
    assert not (artifact.path / RESUME_FILE).exists()


def test_a_file_that_changes_there_is_found_out(memory: MemoryFileSystem) -> None:
    write()
    before = memory.cat("/store/artifact/run.sh")
    memory.pipe("/store/artifact/run.sh", before[::-1])
    with pytest.raises(VqError, match="run.sh is not the file that was written"):
        reopen().verify_file("run.sh")
    memory.rm("/store/artifact/run.sh")
    with pytest.raises(VqError, match="lacks run.sh"):
        reopen()


def test_refuses_a_uri_that_is_taken(memory: MemoryFileSystem) -> None:
    write()
    with pytest.raises(VqError, match="memory://store/artifact exists already"):
        write()
    memory.pipe("/store/other/anything", b"x")
    with pytest.raises(VqError, match="exists already"), create_artifact(Uri("memory", "store/other"), HEADER):
        pass


@pytest.mark.parametrize("failing", ["run.sh", FILE_NAME])
def test_half_an_upload_is_no_artifact_and_is_taken_up_again(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    with monkeypatch.context() as patch:
        fail_uploads_of(failing, patch)
        with pytest.raises(VqError, match=r"access is denied.*lies finished in .*artifact\.partial, and .*--resume"):
            write()
    assert not memory.exists(f"/store/artifact/{FILE_NAME}")
    with pytest.raises(VqError):
        reopen()
    other = Header(**{**vars(HEADER), "settings": {"alpha": 0.5}})
    with pytest.raises(VqError, match="begun with other settings"):
        write(other, resume=True)
    write(resume=True)
    assert torch.equal(reopen().tensors("transformer", ["x"])["x"], torch.ones(2))


def test_does_not_overwrite_what_another_machine_has_finished_meanwhile(
    memory: MemoryFileSystem,
) -> None:
    taken = pytest.raises(VqError, match=f"artifact/{FILE_NAME} exists already")
    with taken, create_artifact(URI, HEADER) as writer:
        writer.write_text("run.sh", "echo")
        memory.pipe(f"/store/artifact/{FILE_NAME}", b"theirs")
    assert memory.find("/store") == [f"/store/artifact/{FILE_NAME}"]
    with pytest.raises(VqError, match=f"artifact/{FILE_NAME} exists already"):
        write(resume=True)
    assert memory.cat(f"/store/artifact/{FILE_NAME}") == b"theirs"
