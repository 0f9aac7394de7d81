"""Writing and resumption; test_writer_kill.py has SIGKILL."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.errors import GateFailed, Unfinished, VqError
from vq_core.files import tensor_file
from vq_core.files.tensor_file import read_metadata
from vq_core.store.manifest import FILE_NAME
from vq_core.store.reader import Artifact, open_artifact
from vq_core.store.resumable_folder import RESUME_FILE, partial_folder
from vq_core.store.writer import ComponentHeader, Header, create_artifact

KIND, FORMAT = "test-kind", 3


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reopen(path: Path) -> Artifact:
    return open_artifact(path, KIND, FORMAT)


def interrupt(path: Path, header: Header) -> None:
    """Leave what a crash leaves after one of two files."""

    class Crash(Exception):
        pass

    with pytest.raises(Crash), create_artifact(path, header) as writer:
        writer.write_text("first.txt", "1")
        raise Crash


def test_round_trip(artifact: Path, header: Header) -> None:
    opened = reopen(artifact)
    tensors = opened.tensors("transformer", ["c", "a", "b"])
    assert list(tensors) == ["c", "a", "b"]
    assert torch.equal(tensors["a"], torch.zeros(4).bfloat16())
    assert torch.equal(tensors["b"], torch.ones(2, 3))
    assert torch.equal(tensors["c"], torch.tensor([7], dtype=torch.int8))
    manifest = opened.manifest
    assert (manifest.kind, manifest.format, manifest.tool, manifest.family) == (KIND, FORMAT, "test 1", "wan")
    assert (manifest.model, manifest.settings, manifest.parents) == ("org/model", {"alpha": 0.75}, {"stats": "digest"})
    entry = manifest.components["transformer"].tensors["b"]
    assert (entry.file, entry.dtype, entry.shape) == ("transformer/block_0.safetensors", "F32", [2, 3])
    assert sorted(manifest.files) == ["run.sh", "transformer/block_0.safetensors", "transformer/non_block.safetensors"]
    assert not partial_folder(artifact).exists()
    assert not (artifact / RESUME_FILE).exists()


def test_a_component_may_lie_in_the_root(tmp_path: Path) -> None:
    header = Header(KIND, FORMAT, "t", "wan", "m", {"transformer": ComponentHeader("", "f", {})})
    with create_artifact(tmp_path / "a", header) as writer:
        writer.write_tensors("block_0.safetensors", {"x": torch.ones(1)})
    assert reopen(tmp_path / "a").tensors("transformer", ["x"])["x"].item() == 1


def test_the_same_content_has_the_same_digest_and_bytes(tmp_path: Path, header: Header, artifact: Path) -> None:
    again = tmp_path / "elsewhere" / "again"
    with create_artifact(again, header) as writer:
        writer.write_text("run.sh", "echo hello")
        writer.write_tensors("transformer/non_block.safetensors", {"c": torch.tensor([7], dtype=torch.int8)})
        writer.write_tensors("transformer/block_0.safetensors", {"a": torch.zeros(4).bfloat16(), "b": torch.ones(2, 3)})
    assert (again / FILE_NAME).read_bytes() == (artifact / FILE_NAME).read_bytes()
    assert reopen(again).digest == reopen(artifact).digest


def test_what_is_measured_is_in_the_manifest_and_metadata_in_the_file(
    tmp_path: Path, header: Header, artifact: Path
) -> None:
    with create_artifact(tmp_path / "a", header) as writer:
        writer.write_tensors("transformer/x.safetensors", {"x": torch.ones(1)}, {"said": "so"})
        writer.note_measured({"transformer": {"x": {"weight_snr_db": 40.0}}})
    assert reopen(tmp_path / "a").manifest.measured == {"transformer": {"x": {"weight_snr_db": 40.0}}}
    assert reopen(artifact).manifest.measured == {}
    assert read_metadata(tmp_path / "a" / "transformer/x.safetensors") == {"format": "pt", "said": "so"}


def test_refuses_a_path_that_exists(artifact: Path, header: Header) -> None:
    before = (artifact / FILE_NAME).read_bytes()
    with pytest.raises(VqError, match="exists already: choose another --output"), create_artifact(artifact, header):
        pass
    assert (artifact / FILE_NAME).read_bytes() == before


def test_a_bug_leaves_a_partial_folder_that_resume_continues(tmp_path: Path, header: Header) -> None:
    path = tmp_path / "a"
    interrupt(path, header)
    assert not path.exists()
    with create_artifact(path, header, resume=True) as writer:
        assert writer.has("first.txt")
        assert not writer.has("second.txt")
        writer.write_text("second.txt", "2")
    assert sorted(reopen(path).manifest.files) == ["first.txt", "second.txt"]


def test_resume_removes_what_a_killed_run_was_writing(tmp_path: Path, header: Header) -> None:
    path = tmp_path / "a"
    interrupt(path, header)
    (partial_folder(path) / ".half.tmp").write_text("half")
    (partial_folder(path) / ".folder.tmp").mkdir()
    (partial_folder(path) / ".folder.tmp" / ".half").write_text("half")
    with create_artifact(path, header, resume=True):
        pass
    assert sorted(found.name for found in path.iterdir()) == ["first.txt", "manifest.json"]


def test_only_what_an_earlier_run_wrote_is_read_again_for_its_digest(
    tmp_path: Path, header: Header, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception):
        pass

    path = tmp_path / "a"
    with pytest.raises(Crash), create_artifact(path, header) as writer:
        writer.write_tensors("transformer/block_0.safetensors", {"a": torch.ones(3)})
        raise Crash
    read: list[str] = []
    monkeypatch.setattr(tensor_file, "sha256_of", lambda file: read.append(file.name) or sha256(file))
    with create_artifact(path, header, resume=True) as writer:
        writer.write_tensors("transformer/block_1.safetensors", {"b": torch.ones(4)})
    assert read == ["block_0.safetensors"]
    for file, entry in reopen(path).manifest.files.items():
        assert entry.sha256 == sha256(path / file)


def test_a_draft_is_no_file_of_the_artifact_until_it_is_published(tmp_path: Path, header: Header) -> None:
    with create_artifact(tmp_path / "a", header) as writer:
        writer.draft_tensors("x.safetensors", {"a": torch.ones(3)})
        assert not writer.has("x.safetensors")
        writer.publish("x.safetensors")
        assert writer.has("x.safetensors")
    with create_artifact(tmp_path / "b", header) as writer:
        writer.write_tensors("x.safetensors", {"a": torch.ones(3)})
    assert (tmp_path / "a" / FILE_NAME).read_bytes() == (tmp_path / "b" / FILE_NAME).read_bytes()


@pytest.mark.parametrize(
    ("resume", "changes", "sentence"),
    [
        (False, {}, "left from an interrupted run: continue it with --resume"),
        (True, {"settings": {"alpha": 0.5}}, "begun with other settings: run the same command again"),
        (True, {"model": "other", "parents": {}}, "begun with other model, parents: run the same command again"),
    ],
)
def test_a_partial_folder_is_continued_only_on_request_and_by_the_same_run(
    tmp_path: Path, header: Header, resume: bool, changes: dict[str, Any], sentence: str
) -> None:
    interrupt(tmp_path / "a", header)
    other = replace(header, **changes)
    with pytest.raises(VqError, match=sentence), create_artifact(tmp_path / "a", other, resume=resume):
        pass
    assert (partial_folder(tmp_path / "a") / "first.txt").exists()


def test_resume_with_nothing_to_resume_begins(tmp_path: Path, header: Header) -> None:
    with create_artifact(tmp_path / "a", header, resume=True) as writer:
        writer.write_text("x", "1")
    assert reopen(tmp_path / "a").manifest.files.keys() == {"x"}


def test_never_removes_a_folder_that_it_did_not_write(tmp_path: Path, header: Header) -> None:
    mine = partial_folder(tmp_path / "a")
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(VqError, match="is in the way"), create_artifact(tmp_path / "a", header):
        pass
    assert (mine / "thesis.txt").read_text() == "mine"


def test_a_mistake_in_the_input_leaves_nothing(tmp_path: Path, header: Header) -> None:
    with pytest.raises(VqError, match=r"^bad weight\.$"), create_artifact(tmp_path / "a", header) as writer:
        writer.draft_tensors("first.safetensors", {"x": torch.ones(1)})
        raise VqError("bad weight.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [VqError, GateFailed, Unfinished])
def test_a_mistake_that_shows_late_keeps_what_is_finished(tmp_path: Path, header: Header, kind: type[VqError]) -> None:
    partial = partial_folder(tmp_path / "a")
    with pytest.raises(kind) as failed, create_artifact(tmp_path / "a", header) as writer:
        writer.write_text("first.txt", "1")
        raise kind("The second is bad: mend it.")
    assert str(failed.value) == (
        f"The second is bad: mend it. What is finished lies in {partial}: mend the cause and run the same command "
        "with --resume, or remove it."
    )
    with create_artifact(tmp_path / "a", header, resume=True) as writer:
        assert writer.has("first.txt")
        writer.write_text("second.txt", "2")
    assert reopen(tmp_path / "a").manifest.files.keys() == {"first.txt", "second.txt"}


def test_work_that_is_stopped_from_outside_keeps_the_folder(tmp_path: Path, header: Header) -> None:
    with pytest.raises(Unfinished, match=r"^another\.$"), create_artifact(tmp_path / "a", header):
        raise Unfinished("another.")
    assert partial_folder(tmp_path / "a").is_dir()


def test_a_mistake_while_resuming_keeps_what_was_there(tmp_path: Path, header: Header) -> None:
    interrupt(tmp_path / "a", header)
    with pytest.raises(VqError), create_artifact(tmp_path / "a", header, resume=True):
        raise VqError("bad weight")
    assert (partial_folder(tmp_path / "a") / "first.txt").exists()


def test_refuses_a_name_that_is_no_text_before_anything_is_written(tmp_path: Path, header: Header) -> None:
    with (
        pytest.raises(VqError, match=r"A name is not UTF-8 text, .*models/\\udcff.*: rename the file"),
        create_artifact(tmp_path / "a", replace(header, model="/models/\udcff")),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_second_writer_and_what_another_has_put_there_meanwhile(tmp_path: Path, header: Header) -> None:
    with create_artifact(tmp_path / "a", header) as writer:
        with pytest.raises(VqError, match="Another command is writing"), create_artifact(tmp_path / "a", header):
            pass
        writer.write_text("mine.txt", "1")
    assert reopen(tmp_path / "a").manifest.files.keys() == {"mine.txt"}
    foreign = pytest.raises(VqError, match="theirs.txt was not written by this run: move it away")
    with foreign, create_artifact(tmp_path / "b", header):
        (partial_folder(tmp_path / "b") / "theirs.txt").write_text("x")


def test_what_is_written_by_other_means_is_adopted(tmp_path: Path, header: Header) -> None:
    with create_artifact(tmp_path / "a", header) as writer:
        writer.draft("pictures/a.png").write_bytes(b"picture")
        assert not writer.has("pictures/a.png")
        writer.adopt("pictures/a.png")
        assert writer.has("pictures/a.png")
    assert reopen(tmp_path / "a").manifest.files["pictures/a.png"].sha256 == hashlib.sha256(b"picture").hexdigest()
