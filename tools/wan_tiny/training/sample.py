"""Sample many clips at once, for the evaluation that ends the training: what the pipeline does, in batches."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wan_tiny.training import parts, whole_clip
from wan_tiny.training.dataset import Dataset, latent_statistics, tokenize
from wan_tiny.training.denoiser import Denoiser
from wan_tiny.training.train_vae import precision


@torch.no_grad()
def sample_clips(
    model: Denoiser, vae: Any, tokenizer: Any, data: Dataset, seed: int, device: str, *, steps: int, guidance: float
) -> NDArray[np.uint8]:
    """One clip for each of `data`'s captions and first frames: uint8 RGB [N, 17, 96, 96, 3]."""
    scheduler = parts.build_scheduler()
    scheduler.set_timesteps(steps, device=device)
    latents = torch.randn(data.latents.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    nothing = tokenize(tokenizer, [""], device).expand_as(data.tokens)
    with precision(device):
        image = model.encode_image(data.images)
        texts = model.encode_text(data.tokens), model.encode_text(nothing)
        for timestep in scheduler.timesteps:
            sigma = (timestep / 1000).expand(len(latents)).float()
            said, unsaid = (model(latents, data.conditions.float(), sigma, text, image).float() for text in texts)
            latents = scheduler.step(unsaid + guidance * (said - unsaid), timestep, latents, return_dict=False)[0]
        mean, std = latent_statistics(vae, latents.device)
        frames = torch.cat([whole_clip.decode(vae, part) for part in (latents * std + mean).split(64)])
    return (frames.float().clamp(-1, 1) + 1).mul(127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
