"""Wan's VAE over a whole clip at once: equal to diffusers' own chunks of four frames with caches, and much faster.

Without a cache, diffusers' causal convolutions already do the right thing; only its temporal resampling does nothing.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor


def prepare(vae: Any) -> None:
    """Give `vae`'s resampling layers a forward pass for whole clips; `encode` and `decode` below need it."""
    for module in vae.modules():
        if getattr(module, "mode", None) in ("upsample3d", "downsample3d"):
            module.forward = MethodType(_resample, module)


def encode(vae: Any, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance [N, z, 1 + F/4, H/8, W/8] of the clips `frames` [N, 3, 1 + F, H, W] in -1..1."""
    mean, log_variance = vae.quant_conv(vae.encoder(frames)).chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Clips [N, 3, 1 + F, H, W], not clamped, so that training sees a gradient beyond -1 and 1."""
    frames: Tensor = vae.decoder(vae.post_quant_conv(latents), first_chunk=True)
    return frames


def _resample(self: Any, x: Tensor, feat_cache: None = None, feat_idx: None = None) -> Tensor:
    """The first frame stays one; the others are doubled, or every two become one."""
    first, rest = x[:, :, :1], x[:, :, 1:]
    if self.mode == "upsample3d" and rest.shape[2]:
        batch, channels, frames, height, width = rest.shape
        doubled = self.time_conv(rest).reshape(batch, 2, channels, frames, height, width)
        x = torch.cat((first, doubled.transpose(1, 2).transpose(2, 3).reshape(batch, channels, -1, height, width)), 2)
    batch, _, frames, _, _ = x.shape
    x = self.resample(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
    if self.mode == "downsample3d" and frames > 1:
        x = torch.cat((x[:, :, :1], self.time_conv(x)), 2)
    return x
