"""A Wan in GGUF is the model that it was made from, dequantized."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families.wan import to_native
from vq_core.model.source import open_source

Q8 = gguf.GGMLQuantizationType.Q8_0


@pytest.fixture
def wide_config(t2v_config: dict[str, Any]) -> dict[str, Any]:
    return t2v_config | {"num_attention_heads": 1, "attention_head_dim": 128}


@pytest.fixture
def tensors(wide_config: dict[str, Any], random_tensors: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    return random_tensors(wide_config, torch.float32)


@pytest.fixture
def expected(tmp_path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Writes the model as llama.cpp's tools do, without leading ones; what is to be read of it."""
    writer, expected = gguf.GGUFWriter(tmp_path / "wan-Q8_0.gguf", "wan"), dict(tensors)
    for name, tensor in tensors.items():
        content = tensor.numpy()
        if name.startswith("blocks.") and tensor.ndim == 2:
            quantized = gguf.quants.quantize(content, Q8)
            expected[name] = torch.from_numpy(gguf.quants.dequantize(quantized, Q8))
            writer.add_tensor(to_native(name), quantized, raw_dtype=Q8)
        else:
            writer.add_tensor(to_native(name), content.squeeze(0) if "table" in name else content)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_whole_model(
    tmp_path: Path, expected: dict[str, Tensor], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(str(tmp_path / "wan-Q8_0.gguf" if what == "file" else tmp_path))
    loaded = source.components["transformer"].plain(expected)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    assert "was quantized before, GGUF's F32, Q8_0, and is read dequantized" in caplog.text
    assert len(source.fingerprints["transformer"]) == 64


@pytest.mark.usefixtures("expected")
def test_refuses_two_files_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "wan-Q4_0.gguf").write_bytes((tmp_path / "wan-Q8_0.gguf").read_bytes())
    with pytest.raises(VqError, match=r"is in wan-Q4_0\.gguf and in wan-Q8_0\.gguf of .*: give the file that you mean"):
        open_source(str(tmp_path))
