"""The memory that Wan's VAEs take on a GPU, whole and in tiles, beside what the memory plan assumes.

Random weights of the real sizes; the peak of decoding and of encoding a whole video, without the weights. From
the root:

    PYTHONPATH=tools uv run python tools/bench/vae_memory.py vae.json
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vq_core.sampling.settings import Sampling
from vq_infer.memory.needs import GIB
from vq_infer.memory.wan_sizes import wan_sizes

MODELS = ("Wan2.1 14B", "Wan2.1 14B wide", "Wan2.2 5B")
SMALL_VAE = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2, "in_channels": 12,
    "out_channels": 12, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip


def build(small: bool) -> Any:
    """A random VAE on the GPU."""
    from diffusers import AutoencoderKLWan

    with torch.device("cuda"):
        return AutoencoderKLWan(**SMALL_VAE if small else {}).eval()


@torch.no_grad()
def peak(work: Callable[[], object]) -> float:
    """The most bytes that `work` held, GiB."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return (torch.cuda.max_memory_allocated() - before) / GIB


def latents(vae: Any, sampling: Sampling) -> Tensor:
    """Random latents of a video of this size."""
    scale = int(vae.config.scale_factor_spatial)
    frames = (sampling.num_frames - 1) // 4 + 1
    shape = (1, vae.config.z_dim, frames, sampling.height // scale, sampling.width // scale)
    return torch.randn(shape, device="cuda")


def main(output: Annotated[Path, typer.Argument(help="JSON to write.")]) -> None:
    """Measure, print a table and keep the figures."""
    table = Table(title=f"Peak of the VAE on {torch.cuda.get_device_name()}, GiB beside its weights")
    for column in ("model", "video", "tiles", "decoding", "encoding", "planned"):
        table.add_column(column)
    found: list[dict[str, Any]] = []
    sizes = wan_sizes(2, fused=True)
    for name in MODELS:
        memory, sampling = sizes[name]
        needs = memory.needs(sampling)
        vae = build(name == "Wan2.2 5B")
        for tiled in (False, True):
            if tiled:
                vae.enable_tiling()
            latent = latents(vae, sampling)
            video = torch.zeros(1, 3, sampling.num_frames, sampling.height, sampling.width, device="cuda")
            figures = {
                "decoding": peak(partial(vae.decode, latent, return_dict=False)),
                "encoding": peak(partial(vae.encode, video, return_dict=False)),
                "planned": (needs.vae_tiled if tiled else needs.vae) / GIB,
            }
            found.append({"model": name, "sampling": vars(sampling), "tiled": tiled, **figures})
            size = f"{sampling.width}x{sampling.height}, {sampling.num_frames} frames"
            table.add_row(name, size, "yes" if tiled else "no", *(f"{value:.2f}" for value in figures.values()))
            output.write_text(json.dumps(found, indent=1) + "\n")
        del vae
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
