"""A Wan2.1-14B image-to-video pipeline of random weights on disk: every part of the real size, or a fraction of it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.random_model import write_model
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.testing.tiny_models import build_tiny
from vq_infer.memory.model_sizes import MODEL_SIZES

WAN: Mapping[str, Any] = MODEL_SIZES["14b"]
HEADS, HEAD_DIM, BLOCKS = WAN["num_attention_heads"], WAN["attention_head_dim"], WAN["num_layers"]
TEXT_FFN, TEXT_HEADS, TEXT_VOCABULARY = 10240, 64, 256384
IMAGE_FFN, IMAGE_HEADS = 5120, 16


def transformer_config(blocks: int = BLOCKS, scale: int = 1) -> dict[str, Any]:
    """Configuration of the transformer, every width divided by `scale`."""
    heads = max(1, HEADS // scale)
    widths = {name: WAN[name] // scale for name in ("ffn_dim", "text_dim", "image_dim")}
    counts = {"num_layers": blocks, "num_attention_heads": heads, "added_kv_proj_dim": heads * HEAD_DIM}
    return {**WAN, **widths, **counts}


def write_pipeline(folder: Path, device: str, *, blocks: int = BLOCKS, scale: int = 1) -> None:
    """Write the pipeline to the new `folder`, its encoders and VAE made on `device`.

    Tokenizer, scheduler and index are those of a tiny model: any text becomes token ids of the large vocabulary too.
    """
    build_tiny("i2v", folder)
    shutil.rmtree(folder / "transformer")
    write_model(folder / "transformer", transformer_config(blocks, scale))
    with silenced_libraries(), torch.device(device):
        _replace(folder / "text_encoder", _text_encoder(scale))
        _replace(folder / "image_encoder", _image_encoder(scale))
        _replace(folder / "vae", _vae(scale))
    processor = folder / "image_processor" / "preprocessor_config.json"
    side = {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}}
    processor.write_text(json.dumps(json.loads(processor.read_text()) | side))


def _replace(folder: Path, module: Any) -> None:
    shutil.rmtree(folder)
    module.save_pretrained(folder)


def _text_encoder(scale: int) -> nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=TEXT_VOCABULARY // scale,
        d_model=WAN["text_dim"] // scale,
        d_ff=TEXT_FFN // scale,
        num_heads=TEXT_HEADS // scale,
        num_layers=24 // scale,
    )
    return UMT5EncoderModel(config).bfloat16()


def _image_encoder(scale: int) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=WAN["image_dim"] // scale,
        intermediate_size=IMAGE_FFN // scale,
        num_attention_heads=IMAGE_HEADS // scale,
        num_hidden_layers=32 // scale,
        image_size=224,
        patch_size=14,
    )
    return CLIPVisionModel(config)


def _vae(scale: int) -> nn.Module:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=96 // scale)
