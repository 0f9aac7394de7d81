"""Decisions beside the tensors they were made for."""

from pathlib import Path

import pytest
import torch

from vq_core.artifacts.decisions import read_decisions, write_decided, written_behind
from vq_core.errors import VqError
from vq_core.store.reader import Artifact, open_artifact
from vq_core.store.writer import ComponentHeader, Header, create_artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    header = Header("kind", 1, "t", "wan", "m", {"transformer": ComponentHeader("transformer", "f", {})})
    with create_artifact(tmp_path / "a", header) as writer:
        for block in (0, 1):
            tensors = {f"x{block}": torch.ones(2)}
            write_decided(writer, f"transformer/block_{block}.safetensors", tensors, {f"linear {block}": {"snr": 0.75}})
    return open_artifact(tmp_path / "a", "kind", 1)


def test_decisions_of_all_files(artifact: Artifact) -> None:
    assert read_decisions(artifact, "transformer") == {"linear 0": {"snr": 0.75}, "linear 1": {"snr": 0.75}}


def test_tensors_imply_their_decisions(tmp_path: Path) -> None:
    with create_artifact(tmp_path / "a", Header("kind", 1, "t", "wan", "m", {})) as writer:
        with pytest.raises(TypeError):
            write_decided(writer, "x.safetensors", {"x": torch.ones(1)}, {"not json": object()})
        assert not writer.has("x.safetensors")


def test_edited_decisions_are_refused(artifact: Artifact) -> None:
    file = artifact.path / "transformer" / "block_1.json"
    file.write_text(file.read_text().replace("0.75", "0.95"))
    with pytest.raises(VqError, match=r"block_1\.json is not the file that was written"):
        read_decisions(artifact, "transformer")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_written_behind_is_there_at_the_end(tmp_path: Path, device: str) -> None:
    header = Header("kind", 1, "t", "wan", "m", {"transformer": ComponentHeader("transformer", "f", {})})
    with create_artifact(tmp_path / "a", header) as writer, written_behind(device) as write:
        for block in range(5):
            write(writer, f"transformer/block_{block}.safetensors", {f"x{block}": torch.ones(2)}, {str(block): block})
    opened = open_artifact(tmp_path / "a", "kind", 1)
    assert read_decisions(opened, "transformer") == {str(block): block for block in range(5)}
    assert list(opened.manifest.components["transformer"].tensors) == [f"x{block}" for block in range(5)]


def test_on_the_cpu_a_block_is_written_before_the_next_is_computed(tmp_path: Path) -> None:
    with (
        create_artifact(tmp_path / "a", Header("kind", 1, "t", "wan", "m", {})) as writer,
        written_behind("cpu") as write,
    ):
        write(writer, "x.safetensors", {"x": torch.ones(1)}, {})
        assert writer.has("x.safetensors")
