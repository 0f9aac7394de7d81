"""A merged model is smoothed as one whose files were rewritten with the merged weights; statistics must be its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import Source, open_source

STEM = "blocks.1.attn1.to_q"


@pytest.fixture
def merged(i2v_model: Path, tmp_path: Path) -> Source:
    """The image-to-video model with a LoRA."""
    rows, columns = open_source(str(i2v_model)).components["transformer"].topology.tensors[f"{STEM}.weight"]
    generator = torch.Generator().manual_seed(0)
    pair = {
        f"transformer.{STEM}.lora_A.weight": torch.randn(2, columns, generator=generator),
        f"transformer.{STEM}.lora_B.weight": torch.randn(rows, 2, generator=generator),
    }
    save_file(pair, tmp_path / "lora.safetensors")
    return open_source(str(i2v_model), [LoraRequest(tmp_path / "lora.safetensors", 0.1)])


def test_a_merged_model_is_the_model_that_was_rewritten(merged: Source, i2v_model: Path, tmp_path: Path) -> None:
    checkpoint = merged.components["transformer"]
    (tmp_path / "rewritten").mkdir()
    config = next(i2v_model.rglob("config.json"))
    (tmp_path / "rewritten" / "config.json").write_bytes(config.read_bytes())
    tensors = checkpoint.plain(checkpoint.topology.tensors)
    save_file(tensors, tmp_path / "rewritten" / "diffusion_pytorch_model.safetensors")
    by_hand = open_source(str(tmp_path / "rewritten"))
    for name, source in (("merged", merged), ("by-hand", by_hand)):
        smooth(source, None, SmoothSettings(method="none"), tmp_path / name)
    ours, theirs = (open_weights(tmp_path / name).components["transformer"] for name in ("merged", "by-hand"))
    for name, tensor in theirs.plain(theirs.topology.tensors).items():
        assert torch.equal(ours.plain([name])[name], tensor), name
    assert ours.fingerprint != theirs.fingerprint
    assert [entry["file"] for entry in ours.lora] == ["lora.safetensors"]

    quantize(open_weights(tmp_path / "merged"), QuantizeSettings("int8"), tmp_path / "qparams")
    (entry,) = open_qparams(tmp_path / "qparams").artifact.manifest.components["transformer"].lora
    assert (entry.file, entry.strength) == ("lora.safetensors", 0.1)


def test_statistics_of_the_plain_model_are_refused(
    merged: Source, i2v_model: Path, make_stats: Callable[..., Path], tmp_path: Path
) -> None:
    stats = open_stats(make_stats(i2v_model))
    with pytest.raises(VqError, match="made from another model .* with the same LoRAs merged"):
        smooth(merged, stats, SmoothSettings(), tmp_path / "smoothed")
