"""Every stage that reads a model with LoRAs reads W + Σ strength · (alpha / rank) · B·A, as a model rewritten so."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.comparing import tensors_in
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import open_weights
from vq_core.testing.tiny_models import FFN_DIM, INNER_DIM

RANK, ALPHA = 4, 2.0
WEIGHTS = "diffusion_pytorch_model.safetensors"


def pair(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """A `[rank, columns]` and B `[rows, rank]`."""
    generator = torch.Generator().manual_seed(seed)
    down, up = torch.randn(RANK, columns, generator=generator), torch.randn(rows, RANK, generator=generator)
    return 0.1 * down, 0.1 * up


@pytest.fixture
def loras(tmp_path: Path) -> list[str]:
    """Kohya's spelling with an alpha at strength 0.8, and diffusers' with a modulation table at strength -0.5."""
    down, up = pair(INNER_DIM, INNER_DIM, 1)
    stem = "lora_unet_blocks_0_self_attn_q"
    kohya = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(ALPHA)}
    save_file(kohya, tmp_path / "kohya.safetensors")
    down, up = pair(FFN_DIM, INNER_DIM, 2)
    stem = "transformer.blocks.1.ffn.net.0.proj"
    diffusers = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    table = {"diffusion_model.blocks.0.diff_m": torch.full((1, 6, INNER_DIM), 0.25)}
    save_file(diffusers | table, tmp_path / "diffusers.safetensors")
    return ["--lora", f"{tmp_path}/kohya.safetensors:0.8", "--lora", f"{tmp_path}/diffusers.safetensors:-0.5"]


@pytest.fixture
def rewritten(tiny_model: Any, tmp_path: Path) -> Path:
    """The model with the same LoRAs in its files, by the formula in float64."""
    folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "rewritten")) / "transformer"
    tensors = tensors_in(folder)
    for path in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        path.unlink()

    def add(name: str, difference: Tensor) -> None:
        tensors[name] = (tensors[name].double() + difference.double()).to(tensors[name].dtype)

    down, up = (part.double() for part in pair(INNER_DIM, INNER_DIM, 1))
    add("blocks.0.attn1.to_q.weight", 0.8 * (ALPHA / RANK) * (up @ down))
    down, up = (part.double() for part in pair(FFN_DIM, INNER_DIM, 2))
    add("blocks.1.ffn.net.0.proj.weight", -0.5 * (up @ down))
    add("blocks.0.scale_shift_table", torch.full((1, 6, INNER_DIM), -0.125))
    save_file(tensors, folder / WEIGHTS)
    return folder.parent


def test_conversion_smoothing_statistics_and_verification_agree(
    run: Any, tiny_model: Any, prompts: Path, sampling: list[str], loras: list[str], rewritten: Path, tmp_path: Path
) -> None:
    model = ["--model", tiny_model("t2v")]
    collected, smoothed, converted, by_hand = (tmp_path / name for name in ("stats", "smoothed", "ckpt", "by hand"))
    run("vq-calib collect", *model, *loras, "--prompts", prompts, "-o", collected, *sampling, "--tokens", 0)
    run("vq-algos smooth", *model, *loras, "--stats", collected, "-o", smoothed)
    run("vq-export lightx2v", *model, *loras, "--scheme", "int8", "-o", converted)
    assert run("vq-export verify", converted, *model, *loras)["problems"] == []

    stats, weights, checkpoint = open_stats(collected), open_weights(smoothed), open_checkpoint(converted)
    entries = [it.artifact.manifest.components["transformer"] for it in (stats, weights, checkpoint)]
    assert len({entry.fingerprint for entry in entries}) == 1
    for entry in entries:
        assert [(lora.file, lora.strength) for lora in entry.lora] == [
            ("kohya.safetensors", 0.8),
            ("diffusers.safetensors", -0.5),
        ]

    run("vq-export lightx2v", "--model", rewritten, "--scheme", "int8", "-o", by_hand)
    ours = tensors_in(converted)
    for name, tensor in tensors_in(by_hand).items():
        if tensor.dtype == torch.int8:
            # The last bit of fp32 may move a weight across the border between two codes, and no more.
            different = (ours[name].int() - tensor.int()).abs()
            assert different.max() <= 1, name
            assert different.count_nonzero() <= 1e-3 * tensor.numel(), name
        else:
            assert torch.allclose(ours[name].double(), tensor.double(), rtol=1e-5, atol=1e-6), name
