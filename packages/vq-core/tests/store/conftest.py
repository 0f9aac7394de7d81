"""An artifact with two files, and the header it was begun with."""

from pathlib import Path

import pytest
import torch

from vq_core.store.writer import ComponentHeader, Header, create_artifact

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
