"""Files that nothing reads, and files in each other's place; tests of the whole catalogue are in tests/."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.store.reader import Artifact
from vq_export.verify.checks.files import file_problems, file_warnings

Paths = dict[str, Path]

Rewrite = Callable[..., Path]


def test_a_sound_checkpoint_says_of_every_file_what_it_is(checkpoints: Paths) -> None:
    for path in checkpoints.values():
        assert list(file_problems(open_checkpoint(path))) == []
        assert list(file_warnings(open_checkpoint(path))) == []


def test_what_a_hub_client_and_a_model_card_add_is_no_problem(checkpoints: Paths, tmp_path: Path) -> None:
    path = shutil.copytree(checkpoints["int8-i2v"], tmp_path / "copy")
    for name in (".cache/huggingface/download/block_0.safetensors.metadata", ".gitattributes", "README.md"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("x")
    assert list(file_problems(open_checkpoint(path))) == []


def test_a_shard_that_lies_in_another_s_place(checkpoints: Paths, tmp_path: Path) -> None:
    path = shutil.copytree(checkpoints["int8-i2v"], tmp_path / "copy")
    checkpoint = open_checkpoint(path)
    shutil.copyfile(path / "block_0.safetensors", path / "block_1.safetensors")
    (problem,) = file_problems(Unchecked(checkpoint))
    assert problem == (
        f"{path / 'block_1.safetensors'} says that it is block_0 of transformer and lies where block_1 of transformer "
        "belongs."
    )


def test_metadata_that_are_damaged_are_a_sentence(checkpoints: Paths, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoints["int8-i2v"], tmp_path / "copy"))
    checkpoint, block = open_checkpoint(path), path / "block_1.safetensors"
    block.write_bytes(block.read_bytes().replace(rb"\"artifact\":", rb"\"artifact\"!", 1))
    with pytest.raises(VqError, match=r"block_1\.safetensors does not say how it was quantized"):
        list(file_problems(Unchecked(checkpoint)))


class Unchecked:
    """A checkpoint whose digests nobody compares."""

    def __init__(self, checkpoint: Any) -> None:
        self.components = checkpoint.components
        self.artifact: Artifact = checkpoint.artifact


def test_files_that_say_nothing_are_warned_of(checkpoints: Paths, rewrite: Rewrite) -> None:
    def edit(content: Any) -> None:
        # A name that the original lacks has no metadata to be copied.
        content.tensors["renamed.safetensors"] = content.tensors.pop("block_1.safetensors")

    path = rewrite(checkpoints["int8-i2v"], edit)
    (path / "renamed.safetensors").rename(path / "block_1.safetensors")
    checkpoint = Unchecked(open_checkpoint(checkpoints["int8-i2v"]))
    checkpoint.artifact = Artifact(path, checkpoint.artifact.manifest)
    (warning,) = file_warnings(checkpoint)
    assert warning.startswith("1 files do not say how they were quantized, block_1.safetensors is the first")
