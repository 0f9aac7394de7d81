"""What is gathered from a merged model is what a model whose files were rewritten with the merged weights gives."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vq_calib.collection.collect import collect
from vq_calib.planning.run_plan import CollectRequest
from vq_core.artifacts.stats import open_stats
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import open_source
from vq_core.testing.tiny_models import INNER_DIM


@pytest.fixture
def lora(tmp_path: Path) -> LoraRequest:
    generator = torch.Generator().manual_seed(0)
    stem = "lora_unet_blocks_0_self_attn_o"
    down, up = (torch.randn(shape, generator=generator) for shape in ((2, INNER_DIM), (INNER_DIM, 2)))
    tensors = {
        f"{stem}.lora_down.weight": down,
        f"{stem}.lora_up.weight": up,
        f"{stem}.alpha": torch.tensor(1.0),
        "diffusion_model.blocks.1.norm3.diff": torch.randn(INNER_DIM, generator=generator),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    return LoraRequest(tmp_path / "lora.safetensors", 0.5)


def test_a_merged_model_is_the_model_that_was_rewritten(
    make_request: Callable[..., CollectRequest], lora: LoraRequest, tmp_path: Path
) -> None:
    request = make_request(tokens=8)
    model = request.model
    checkpoint = open_source(model, [lora]).components["transformer"]
    rewritten = Path(shutil.copytree(model, tmp_path / "rewritten"))
    for file in (rewritten / "transformer").glob("*.safetensors*"):
        file.unlink()
    tensors = checkpoint.plain(checkpoint.topology.tensors)
    save_file(tensors, rewritten / "transformer" / "diffusion_pytorch_model.safetensors")

    folders = {name: tmp_path / name for name in ("merged", "by hand", "plain")}
    for name, path, loras in (("merged", model, (lora,)), ("by hand", rewritten, ()), ("plain", model, ())):
        collect(replace(request, model=str(path), loras=loras), folders[name])
    merged, by_hand, plain = (open_stats(folder).artifact.manifest for folder in folders.values())
    assert merged.files == by_hand.files
    assert merged.files != plain.files
    assert len({it.components["transformer"].fingerprint for it in (merged, by_hand, plain)}) == 3
    (entry,) = merged.components["transformer"].lora
    assert (entry.file, entry.strength) == ("lora.safetensors", 0.5)
    assert plain.components["transformer"].lora == []
