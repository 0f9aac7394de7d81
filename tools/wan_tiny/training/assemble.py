"""Put the trained parts together to a diffusers pipeline folder, as it ships: bfloat16 weights, one file a part."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.sampling.pretrained import load_model
from vq_wan_tiny.world import FRAMES, SIDE
from wan_tiny.training import parts
from wan_tiny.training.denoiser import Denoiser

SAMPLING = {"height": SIDE, "width": SIDE, "num_frames": FRAMES, "steps": 20, "guidance_scale": 3.0, "fps": 8}


def assemble(vae_folder: Path, model: Denoiser, folder: Path) -> Path:
    """Write the whole pipeline to `folder` and return it."""
    with silenced_libraries():
        from diffusers import AutoencoderKLWan, WanImageToVideoPipeline

        WanImageToVideoPipeline(
            tokenizer=parts.build_tokenizer(),
            text_encoder=_rounded(model.text_encoder),
            vae=load_model(AutoencoderKLWan, vae_folder, torch_dtype=torch.bfloat16),
            scheduler=parts.build_scheduler(),
            transformer=_rounded(model.transformer),
            image_encoder=_rounded(model.image_encoder),
            image_processor=parts.build_image_processor(),
        ).save_pretrained(folder)
    (folder / "sampling.json").write_text(json.dumps(SAMPLING, indent=2) + "\n", encoding="utf-8")
    return folder


def _rounded(module: nn.Module) -> Any:
    """A copy on the host in bfloat16, but for what diffusers itself keeps in float32."""
    module = copy.deepcopy(module).cpu()
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    for name, parameter in module.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.bfloat16()
    return module
