"""The image encoder: the visual half of CLIP, a ViT-H/14, with q, k and v in one linear.

The file also holds the projection into CLIP's common space (`visual.head`) and its temperature (`log_scale`), which
nothing in Wan reads. Transformers' image encoder has neither; zeros then stand in for them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

KEY = "clip"
FOLDER = "image_encoder"
CLASS = "CLIPVisionModel"
FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
DTYPE = torch.float16
QUANTIZED = re.compile(r"visual\.transformer\.\d+\.(attn\.(to_qkv|proj)|mlp\.[02])\.weight")
LEFT_OUT = ("textual.",)  # Wan has a text encoder of its own
FUNCTION = {"hidden_act": "gelu", "layer_norm_eps": 1e-5}
HEAD_OUT = 1024

# Native → transformers: linears and norms of a layer, norms outside, and single tensors.
_IN_LAYER = {
    "norm1": ("layer_norm1",),
    "attn.to_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.proj": ("self_attn.out_proj",),
    "norm2": ("layer_norm2",),
    "mlp.0": ("mlp.fc1",),
    "mlp.2": ("mlp.fc2",),
}
_NORMS = {"pre_norm": "pre_layrnorm", "post_norm": "post_layernorm"}
_SINGLE: dict[str, tuple[str, ...]] = {
    "visual.cls_embedding": ("embeddings.class_embedding",),
    "visual.pos_embedding": ("embeddings.position_embedding.weight",),
    "visual.patch_embedding.weight": ("embeddings.patch_embedding.weight",),
    "visual.head": (),
    "log_scale": (),
}


def shapes_of_config(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Native names and shapes for transformers' `config`."""
    return _shapes(
        dim=config["hidden_size"],
        dim_mlp=config["intermediate_size"],
        out=HEAD_OUT,  # zeros that nothing reads, whatever the config says of a projection
        tokens=(config["image_size"] // config["patch_size"]) ** 2 + 1,
        patch=config["patch_size"],
        layers=config["num_hidden_layers"],
    )


def shapes_of_tensors(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of the encoder that holds the native tensors `found`."""
    _, tokens, dim = found["visual.pos_embedding"]
    return _shapes(
        dim=dim,
        dim_mlp=found["visual.transformer.0.mlp.0.weight"][0],
        out=found["visual.head"][1],
        tokens=tokens,
        patch=found["visual.patch_embedding.weight"][-1],
        layers=len({name.split(".")[2] for name in found if name.startswith("visual.transformer.")}),
    )


def in_transformers(name: str) -> tuple[str, ...]:
    """Transformers' names of what makes up the native tensor `name`."""
    if name in _SINGLE:
        return _SINGLE[name]
    stem, part = name.removeprefix("visual.").rsplit(".", 1)
    if stem in _NORMS:
        return (f"{_NORMS[stem]}.{part}",)
    _, layer, place = stem.split(".", 2)
    return tuple(f"encoder.layers.{layer}.{other}.{part}" for other in _IN_LAYER[place])


def own_name(name: str) -> str | None:
    """Without the prefix `vision_model.` of transformers up to version 4; None for positions, which are no weight."""
    name = name.removeprefix("vision_model.")
    return None if name == "embeddings.position_ids" else name


def _shapes(*, dim: int, dim_mlp: int, out: int, tokens: int, patch: int, layers: int) -> dict[str, tuple[int, ...]]:
    """`tokens` counts the patches and the class token."""
    shapes: dict[str, tuple[int, ...]] = {
        "log_scale": (),
        "visual.cls_embedding": (1, 1, dim),
        "visual.pos_embedding": (1, tokens, dim),
        "visual.head": (dim, out),
        "visual.patch_embedding.weight": (dim, 3, patch, patch),
        **_norm("visual.pre_norm", dim),
    }
    for layer in (f"visual.transformer.{index}" for index in range(layers)):
        shapes |= _norm(f"{layer}.norm1", dim) | _norm(f"{layer}.norm2", dim)
        shapes |= _linear(f"{layer}.attn.to_qkv", 3 * dim, dim) | _linear(f"{layer}.attn.proj", dim, dim)
        shapes |= _linear(f"{layer}.mlp.0", dim_mlp, dim) | _linear(f"{layer}.mlp.2", dim, dim_mlp)
    return shapes | _norm("visual.post_norm", dim)


def _norm(stem: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{stem}.weight": (dim,), f"{stem}.bias": (dim,)}


def _linear(stem: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{stem}.weight": (rows, columns), f"{stem}.bias": (rows,)}


LIGHTX2V_SHAPES = _shapes(dim=1280, dim_mlp=5120, out=HEAD_OUT, tokens=257, patch=14, layers=32)
