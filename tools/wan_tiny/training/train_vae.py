"""Train wan-tiny's VAE: first on crops of a few frames, which is quick, then on whole clips."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vq_wan_tiny.render import render, shape_mask
from vq_wan_tiny.world import FRAMES, SIDE, Scenes, draw_scenes
from wan_tiny.training import parts, whole_clip

KL_WEIGHT = 1e-4
SHAPE_WEIGHT = 4.0
PEAK_RATE = 2e-3
WARMUP_STEPS = 50
EMA = 0.995


@dataclass(frozen=True)
class Stage:
    """A stretch of the training: `steps` of `batch` clips, cropped to `frames` and `side`."""

    steps: int
    batch: int
    frames: int
    side: int


STAGES = (Stage(1800, 64, 9, 64), Stage(500, 24, FRAMES, SIDE))


def train_vae(
    seed: int, device: str, log: Callable[[str, int, float], None], stages: tuple[Stage, ...] = STAGES
) -> Any:
    """A trained VAE on `device`, whose configuration knows the mean and the spread of its latents."""
    torch.manual_seed(seed)
    vae = parts.build_vae().to(device)
    whole_clip.prepare(vae)
    set_memory_format(vae, torch.channels_last_3d)
    average = copy.deepcopy(vae).requires_grad_(False)
    draw = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    total = sum(stage.steps for stage in stages)
    step = 0
    for stage in stages:
        for _ in range(stage.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, total, PEAK_RATE, WARMUP_STEPS)
            frames, weight = _batch(stage, draw)
            loss, error = _loss(vae, frames, weight, device)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            update_average(average, vae, min(EMA, step / (step + 10)))
            step += 1
            if step % 50 == 0 or step == total:
                log("vae_psnr", step, -10 * math.log10(float(error) / 4))
    _set_latent_statistics(average, seed, device)
    return average


def learning_rate(step: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


@torch.no_grad()
def update_average(average: torch.nn.Module, model: torch.nn.Module, keep: float) -> None:
    """Exponential moving average of the weights: keep·average + (1 − keep)·model."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)


def precision(device: str) -> Any:
    """bfloat16 arithmetic where the device has units for it."""
    return torch.autocast("cuda", torch.bfloat16, enabled=device != "cpu")


def measure_vae(vae: Any, seed: int, device: str, clips: int = 128) -> float:
    """PSNR in dB of fresh clips through the VAE, encoded to the mean and decoded, clamped as the pipeline does."""
    draw = torch.Generator(device).manual_seed(seed)
    error = 0.0
    with torch.no_grad(), precision(device):
        for _ in range(max(clips // 16, 1)):
            frames = render(draw_scenes(16, draw))
            again = whole_clip.decode(vae, whole_clip.encode(vae, frames)[0]).float().clamp(-1, 1)
            error += float((again - frames).square().mean())
    return -10 * math.log10(error / max(clips // 16, 1) / 4)


def _batch(stage: Stage, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clips in a random place and time, and the weight of each pixel in the loss."""
    with torch.no_grad():
        scenes = draw_scenes(stage.batch, draw)
        frames, weight = render(scenes), _weight(scenes)
        first, top, left = (
            int(torch.randint(limit + 1, ())) for limit in (FRAMES - stage.frames, *[SIDE - stage.side] * 2)
        )
        window = (
            slice(None),
            slice(None),
            slice(first, first + stage.frames),
            slice(top, top + stage.side),
            slice(left, left + stage.side),
        )
        return frames[window].contiguous(memory_format=torch.channels_last_3d), weight[window]


def _weight(scenes: Scenes) -> Tensor:
    return 1 + (SHAPE_WEIGHT - 1) * shape_mask(scenes)[:, None]


def _loss(vae: Any, frames: Tensor, weight: Tensor, device: str) -> tuple[Tensor, Tensor]:
    with precision(device):
        mean, log_variance = (part.float() for part in whole_clip.encode(vae, frames))
        latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        off = whole_clip.decode(vae, latents).float() - frames
    error = off.square()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    loss = ((off.abs() + error) * weight).mean() / weight.mean() + KL_WEIGHT * divergence
    return loss, error.mean().detach()


def _set_latent_statistics(vae: Any, seed: int, device: str) -> None:
    """The pipeline normalises latents with the mean and standard deviation that it finds in the VAE's configuration."""
    draw = torch.Generator(device).manual_seed(seed + 1)
    with torch.no_grad(), precision(device):
        latents = torch.cat([whole_clip.encode(vae, render(draw_scenes(32, draw)))[0].float() for _ in range(16)])
    by_channel = latents.transpose(0, 1).flatten(1)
    vae.register_to_config(latents_mean=by_channel.mean(1).tolist(), latents_std=by_channel.std(1).tolist())


def save_vae(vae: Any, folder: Path) -> None:
    """Write `vae` in bfloat16, as it ships."""
    plain = copy.deepcopy(vae)
    set_memory_format(plain, torch.contiguous_format)
    for parameter in plain.parameters():
        parameter.data = parameter.data.bfloat16()
    plain.save_pretrained(folder)


def set_memory_format(vae: Any, memory_format: torch.memory_format) -> None:
    """Lay out the kernels of all 3-D convolutions; what they read and write follows."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=memory_format)


def seconds_since(start: float) -> float:
    """Seconds since `start`, once the device has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - start
