"""Writing, resumption, and one test for every refusal; test_store_kill.py has SIGKILL."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vq_core import tensor_file
from vq_core.errors import VqError
from vq_core.manifest import FILE_NAME
from vq_core.store import (
    RESUME_FILE,
    Artifact,
    ComponentHeader,
    Header,
    create_artifact,
    open_artifact,
    partial_folder,
    require_parent,
    require_same_model,
)
from vq_core.tensor_file import read_metadata

KIND, FORMAT = "test-kind", 3


@pytest.fixture
def header() -> Header:
    component = ComponentHeader("transformer", "fingerprint", {"num_layers": 1})
    return Header(
        KIND, FORMAT, "test 1", "wan", "org/model", {"transformer": component}, {"alpha": 0.75}, {"stats": "digest"}
    )


@pytest.fixture
def artifact(tmp_path: Path, header: Header) -> Path:
    """A complete artifact with two tensor files and a text."""
    path = tmp_path / "artifact"
    with create_artifact(path, header) as writer:
        writer.write_tensors("transformer/block_0.safetensors", {"b": torch.ones(2, 3), "a": torch.zeros(4).bfloat16()})
        writer.write_tensors("transformer/non_block.safetensors", {"c": torch.tensor([7], dtype=torch.int8)})
        writer.write_text("run.sh", "echo hello")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reopen(path: Path) -> Artifact:
    return open_artifact(path, KIND, FORMAT)


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


def test_what_is_measured_while_writing_is_in_the_manifest(tmp_path: Path, header: Header, artifact: Path) -> None:
    with create_artifact(tmp_path / "a", header) as writer:
        writer.write_tensors("transformer/x.safetensors", {"x": torch.ones(1)}, {"said": "so"})
        writer.note_measured({"transformer": {"x": {"weight_snr_db": 40.0}}})
    assert reopen(tmp_path / "a").manifest.measured == {"transformer": {"x": {"weight_snr_db": 40.0}}}
    assert reopen(artifact).manifest.measured == {}


def test_an_artifact_can_be_moved(artifact: Path) -> None:
    moved = artifact.rename(artifact.with_name("moved"))
    assert reopen(moved).tensors("transformer", ["a"])


# --- What create_artifact refuses ---------------------------------------------------------------


def test_refuses_a_path_that_exists(artifact: Path, header: Header) -> None:
    before = (artifact / FILE_NAME).read_bytes()
    with pytest.raises(VqError, match="exists already: choose another --output"), create_artifact(artifact, header):
        pass
    assert (artifact / FILE_NAME).read_bytes() == before


def interrupt(path: Path, header: Header) -> None:
    """Leave what a crash leaves after one of two files."""

    class Crash(Exception):
        pass

    with pytest.raises(Crash), create_artifact(path, header) as writer:
        writer.write_text("first.txt", "1")
        raise Crash


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


def test_metadata_are_in_the_file(tmp_path: Path, header: Header) -> None:
    with create_artifact(tmp_path / "a", header) as writer:
        writer.write_tensors("x.safetensors", {"a": torch.ones(3)}, {"recipe": "none"})
    assert read_metadata(tmp_path / "a" / "x.safetensors") == {"format": "pt", "recipe": "none"}


def test_refuses_a_partial_folder_without_resume(tmp_path: Path, header: Header) -> None:
    interrupt(tmp_path / "a", header)
    with pytest.raises(VqError, match="left from an interrupted run"), create_artifact(tmp_path / "a", header):
        pass
    assert (partial_folder(tmp_path / "a") / "first.txt").exists()


def test_refuses_to_resume_with_other_settings(tmp_path: Path, header: Header) -> None:
    interrupt(tmp_path / "a", header)
    other = Header(**{**vars(header), "settings": {"alpha": 0.5}})
    with (
        pytest.raises(VqError, match="begun with other settings"),
        create_artifact(tmp_path / "a", other, resume=True),
    ):
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
    with pytest.raises(VqError, match="bad weight"), create_artifact(tmp_path / "a", header) as writer:
        writer.write_text("first.txt", "1")
        raise VqError("bad weight")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_while_resuming_keeps_what_was_there(tmp_path: Path, header: Header) -> None:
    interrupt(tmp_path / "a", header)
    with pytest.raises(VqError), create_artifact(tmp_path / "a", header, resume=True):
        raise VqError("bad weight")
    assert (partial_folder(tmp_path / "a") / "first.txt").exists()


def test_resume_removes_what_was_half_written(tmp_path: Path, header: Header) -> None:
    path = tmp_path / "a"
    interrupt(path, header)
    (partial_folder(path) / ".tmpXk3").write_bytes(bytes(1000))
    with create_artifact(path, header, resume=True):
        pass
    assert sorted(file.name for file in path.iterdir()) == ["first.txt", FILE_NAME]


# --- What open_artifact refuses -----------------------------------------------------------------


def test_refuses_an_unfinished_artifact(tmp_path: Path, header: Header) -> None:
    interrupt(tmp_path / "a", header)
    with pytest.raises(VqError, match="unfinished: continue the run"):
        reopen(partial_folder(tmp_path / "a"))


def test_refuses_a_missing_file(artifact: Path) -> None:
    (artifact / "transformer" / "block_0.safetensors").unlink()
    with pytest.raises(VqError, match=r"lacks transformer/block_0\.safetensors"):
        reopen(artifact)


def test_refuses_an_extra_file(artifact: Path) -> None:
    save_file({"x": torch.ones(1)}, artifact / "transformer" / "block_1.safetensors")
    with pytest.raises(VqError, match=r"holds transformer/block_1\.safetensors, which is not part"):
        reopen(artifact)


def test_refuses_a_wrong_size(artifact: Path) -> None:
    os.truncate(artifact / "transformer" / "block_0.safetensors", 40)
    with pytest.raises(VqError, match=r"block_0\.safetensors has 40 bytes and should have"):
        reopen(artifact)


def test_refuses_a_flipped_byte_when_it_is_read(artifact: Path) -> None:
    file = artifact / "transformer" / "block_0.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    opened = reopen(artifact)
    assert opened.tensors("transformer", ["c"])  # another file
    with pytest.raises(VqError, match=r"block_0\.safetensors is not the file that was written \(its SHA-256 differs\)"):
        opened.tensors("transformer", ["a"])


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({"b": torch.ones(3, 2), "a": torch.zeros(4).bfloat16()}, r"`b`.* should be F32 \[2, 3\] and is F32 \[3, 2\]"),
        ({"b": torch.ones(2, 3), "a": torch.zeros(4).half()}, r"`a`.* should be BF16 \[4\] and is F16 \[4\]"),
    ],
)
def test_refuses_another_dtype_or_shape(artifact: Path, tensors: dict[str, torch.Tensor], found: str) -> None:
    file = artifact / "transformer" / "block_0.safetensors"
    size = file.stat().st_size
    save_file(tensors, file, metadata={"format": "pt"})
    # Headers are padded with spaces to eight bytes; the size of F16 and BF16 differs by one character.
    if file.stat().st_size != size:
        pytest.fail("the substitute must have the same size, or another check refuses it first")
    with pytest.raises(VqError, match=found):
        reopen(artifact)


def test_for_another_device_tensors_are_read_once_the_file_is_verified(artifact: Path) -> None:
    loaded = reopen(artifact).tensors("transformer", ["c", "a", "b"], "meta")
    assert {name: (x.device.type, x.dtype, tuple(x.shape)) for name, x in loaded.items()} == {
        "c": ("meta", torch.int8, (1,)),
        "a": ("meta", torch.bfloat16, (4,)),
        "b": ("meta", torch.float32, (2, 3)),
    }
    path = artifact / "transformer" / "block_0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VqError, match="is not the file that was written"):
        reopen(artifact).tensors("transformer", ["a"], "meta")


def test_refuses_a_tensor_that_is_not_there(artifact: Path) -> None:
    with pytest.raises(VqError, match="has no tensor `d` for transformer"):
        reopen(artifact).tensors("transformer", ["a", "d"])


def test_hidden_files_are_no_part_of_it(artifact: Path) -> None:
    (artifact / ".DS_Store").write_bytes(b"x")
    reopen(artifact)


def test_refuses_another_model(artifact: Path) -> None:
    opened = reopen(artifact)
    require_same_model(opened, {"transformer": "fingerprint"}, "/models/wan")
    with pytest.raises(VqError, match=r"made from another model \(org/model\) than /models/wan"):
        require_same_model(opened, {"transformer": "another"}, "/models/wan")
    with pytest.raises(VqError, match="knows nothing of transformer_2 of /models/wan"):
        require_same_model(opened, {"transformer": "fingerprint", "transformer_2": "x"}, "/models/wan")


def test_refuses_another_parent(tmp_path: Path, header: Header, artifact: Path) -> None:
    parent = reopen(artifact)
    child_header = Header(**{**vars(header), "kind": "child", "parents": {KIND: parent.digest}})
    with create_artifact(tmp_path / "child", child_header):
        pass
    child = open_artifact(tmp_path / "child", "child", FORMAT)
    require_parent(child, parent)
    edit_settings = Header(**{**vars(header), "settings": {"alpha": 0.5}})
    with create_artifact(tmp_path / "other", edit_settings):
        pass
    with pytest.raises(VqError, match="was not made from .*other: give the test-kind it was made from"):
        require_parent(child, reopen(tmp_path / "other"))
