"""A transformer, LoRA files, and the transformer with those merged."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import SourceTransformer, open_source

OpenMerged = Callable[..., SourceTransformer]


@pytest.fixture
def folder(tmp_path: Path, i2v_config: dict[str, Any], random_tensors: Any, write_transformer: Any) -> Path:
    """A transformer in float32."""
    path: Path = write_transformer(tmp_path / "model", i2v_config, random_tensors(i2v_config, torch.float32), shards=2)
    return path


@pytest.fixture
def write_lora(tmp_path: Path) -> Callable[..., Path]:
    def write(tensors: Mapping[str, Tensor], name: str = "lora.safetensors", **metadata: str) -> Path:
        save_file(dict(tensors), tmp_path / name, metadata=metadata or None)
        return tmp_path / name

    return write


@pytest.fixture
def merged(folder: Path, write_lora: Callable[..., Path]) -> OpenMerged:
    """The transformer with LoRA files of these tensors merged, all of one strength."""

    def open_merged(*files: Mapping[str, Tensor], strength: float = 1.0, model: Path = folder) -> SourceTransformer:
        paths = [write_lora(tensors, f"{index}.safetensors") for index, tensors in enumerate(files)]
        return open_source(str(model), [LoraRequest(path, strength) for path in paths]).components["transformer"]

    return open_merged
