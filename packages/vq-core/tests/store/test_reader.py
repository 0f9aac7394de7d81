"""What is read back, and one test for every refusal."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.store.manifest import FILE_NAME, Manifest
from vq_core.store.reader import Artifact, open_artifact, require_parent, require_same_model
from vq_core.store.writer import Header, create_artifact

KIND, FORMAT = "test-kind", 3


def reopen(path: Path) -> Artifact:
    return open_artifact(path, KIND, FORMAT)


def test_an_artifact_can_be_moved(artifact: Path) -> None:
    moved = artifact.rename(artifact.with_name("moved"))
    assert reopen(moved).tensors("transformer", ["a"])


def test_working_files_and_a_model_card_are_ignored(artifact: Path) -> None:
    for name in (".cache/huggingface/download/run.sh.metadata", ".gitattributes", ".DS_Store", "README.md"):
        (artifact / name).parent.mkdir(parents=True, exist_ok=True)
        (artifact / name).write_text("x")
    assert "README.md" not in reopen(artifact).manifest.files


BLOCK = "transformer/block_0.safetensors"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: (path / BLOCK).unlink(), rf"lacks {BLOCK} \(1 files missing\): copy or make"),
        (lambda path: (path / "more.bin").write_bytes(b""), r"holds more\.bin, which is not part of the artifact"),
        (lambda path: os.truncate(path / BLOCK, 40), r"block_0\.safetensors has 40 bytes and should have"),
    ],
)
def test_refuses_files_that_are_not_those_of_the_manifest(
    artifact: Path, change: Callable[[Path], object], sentence: str
) -> None:
    change(artifact)
    with pytest.raises(VqError, match=sentence):
        reopen(artifact)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_refuses_a_flipped_byte_when_it_is_read(artifact: Path, device: str) -> None:
    content = bytearray((artifact / BLOCK).read_bytes())
    content[-1] ^= 1
    (artifact / BLOCK).write_bytes(content)
    opened = reopen(artifact)
    assert opened.tensors("transformer", ["c"], device)  # another file
    with pytest.raises(VqError, match=r"block_0\.safetensors is not the file that was written \(its SHA-256 differs\)"):
        opened.tensors("transformer", ["a"], device)


def test_tensors_are_read_for_another_device(artifact: Path) -> None:
    loaded = reopen(artifact).tensors("transformer", ["c", "a", "b"], "meta")
    assert {name: (x.device.type, x.dtype, tuple(x.shape)) for name, x in loaded.items()} == {
        "c": ("meta", torch.int8, (1,)),
        "a": ("meta", torch.bfloat16, (4,)),
        "b": ("meta", torch.float32, (2, 3)),
    }


def test_a_model_card_that_the_manifest_lists_is_checked(artifact: Path) -> None:
    manifest = json.loads((artifact / FILE_NAME).read_text())
    del manifest["digest"]
    manifest["files"]["README.md"] = {"size": 4, "sha256": ""}
    (artifact / FILE_NAME).write_text(Manifest.model_validate(manifest).to_json())
    with pytest.raises(VqError, match=r"lacks README\.md"):
        reopen(artifact)
    (artifact / "README.md").write_text("12345")
    with pytest.raises(VqError, match=r"README\.md has 5 bytes and should have 4"):
        reopen(artifact)


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


def test_refuses_a_tensor_that_is_not_there(artifact: Path) -> None:
    with pytest.raises(VqError, match="has no tensor `d` for transformer"):
        reopen(artifact).tensors("transformer", ["a", "d"])


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
