"""Clips of the world as the transformer sees them: latents, encoded once by the finished VAE and kept on the device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vq_wan_tiny.captions import caption, claims_of
from vq_wan_tiny.render import render
from vq_wan_tiny.world import draw_scenes
from wan_tiny.training import whole_clip
from wan_tiny.training.train_vae import precision

TEXT_TOKENS = 64  # no caption has more
MASK_CHANNELS = 4


@dataclass(frozen=True)
class Dataset:
    """N clips on one device.

    Attributes:
        latents: normalised as in the pipeline, bfloat16 [N, 16, 5, 12, 12].
        conditions: mask and normalised latents of the first frame and nothing behind, bfloat16 [N, 20, 5, 12, 12].
        images: first frames, uint8 RGB [N, 3, 96, 96].
        tokens: captions, padded, int64 [N, 64].
        captions: the same as text.
    """

    latents: Tensor
    conditions: Tensor
    images: Tensor
    tokens: Tensor
    captions: list[str]


@torch.no_grad()
def encode_clips(
    vae: Any, tokenizer: Any, count: int, seed: int, device: str, *, held_out: bool = False, batch: int = 64
) -> Dataset:
    """Draw `count` clips with `seed` and encode them."""
    draw = torch.Generator(device).manual_seed(seed)
    latents, conditions, images, captions = [], [], [], []
    for start in range(0, count, batch):
        scenes = draw_scenes(min(batch, count - start), draw, held_out=held_out)
        frames = render(scenes)
        first = (frames[:, :, 0] + 1).mul(127.5).round().to(torch.uint8)
        latents.append(_normalized(vae, frames, device))
        conditions.append(condition(vae, first, frames.shape[2], device))
        images.append(first)
        captions += [caption(claims) for claims in claims_of(scenes)]
    return Dataset(
        torch.cat(latents), torch.cat(conditions), torch.cat(images), tokenize(tokenizer, captions, device), captions
    )


def condition(vae: Any, image: Tensor, frames: int, device: str) -> Tensor:
    """The pipeline's inputs of the transformer beside the noise, for first frames `image`, uint8 [N, 3, H, W].

    Four channels that say which frames are given (the first), and the latents of the first frame before grey ones.
    """
    clip = torch.zeros(*image.shape[:2], frames, *image.shape[2:], device=image.device)
    clip[:, :, 0] = image / 127.5 - 1
    latents = _normalized(vae, clip, device)
    mask = torch.zeros_like(latents[:, :MASK_CHANNELS])
    mask[:, :, 0] = 1
    return torch.cat((mask, latents), dim=1)


def latent_statistics(vae: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel [16, 1, 1, 1], from the VAE's configuration."""
    mean, std = (torch.tensor(vae.config[name], device=device) for name in ("latents_mean", "latents_std"))
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)


def tokenize(tokenizer: Any, captions: list[str], device: str) -> Tensor:
    """Captions as int64 [N, 64], padded."""
    ids: Tensor = tokenizer(captions, padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt").input_ids
    if ids.shape[1] > TEXT_TOKENS:
        raise ValueError(f"a caption has {ids.shape[1]} tokens and the training has room for {TEXT_TOKENS}")
    return ids.to(device)


def _normalized(vae: Any, frames: Tensor, device: str) -> Tensor:
    with precision(device):
        latents = whole_clip.encode(vae, frames.contiguous(memory_format=torch.channels_last_3d))[0].float()
    mean, std = latent_statistics(vae, latents.device)
    return ((latents - mean) / std).to(torch.bfloat16)
