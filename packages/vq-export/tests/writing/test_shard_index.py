"""The index of a folder of safetensors files."""

import json
from pathlib import Path

import torch

from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_export.writing.shard_index import write_index


def test_an_index_names_the_file_of_every_tensor_and_the_bytes_of_all(tmp_path: Path) -> None:
    header = Header("kind", 1, "t", "wan", "m", {"transformer": ComponentHeader("expert", "f", {})})
    with create_artifact(tmp_path / "a", header) as writer:
        writer.write_tensors("expert/two.safetensors", {"c": torch.zeros(2, 3)})
        writer.write_tensors("expert/one.safetensors", {"b": torch.zeros(5, dtype=torch.int8), "a": torch.zeros(1)})
        write_index(writer, "expert", ["expert/two.safetensors", "expert/one.safetensors"])
    index = json.loads((tmp_path / "a/expert/diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 6 * 4 + 5 + 4}
    assert list(index["weight_map"].items()) == [
        ("a", "one.safetensors"), ("b", "one.safetensors"), ("c", "two.safetensors"),
    ]  # fmt: skip
