"""The image encoder: the visual half of CLIP, a ViT-H/14, with q, k and v in one linear.

The projection into CLIP's common space (`visual.head`) and its temperature (`log_scale`) belong to the file, and
nothing in Wan reads them. Transformers' image encoder has neither; they are then zeros.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vq_core.errors import VqError

KEY = "clip"
FOLDER = "image_encoder"
CLASS = "CLIPVisionModel"
FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
DTYPE = torch.float16

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
# What LightX2V's module computes, by the key of transformers' config.json.
_FUNCTION = {"hidden_act": "gelu", "layer_norm_eps": 1e-5}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a CLIP vision transformer; `tokens` counts the patches and the class token."""

    dim: int
    dim_mlp: int
    out: int
    tokens: int
    patch: int
    layers: int


VIT_H_14 = Sizes(1280, 5120, 1024, 257, 14, 32)


def shapes_of_config(config: Mapping[str, Any], where: object) -> dict[str, tuple[int, ...]]:
    """Native names and shapes for transformers' `config`.

    Raises:
        VqError: it is that of another function than LightX2V's.
    """
    for key, value in _FUNCTION.items():
        if config.get(key) != value:
            raise VqError(
                f"{where} says {key} {config.get(key)!r}, and LightX2V's CLIP runs {value!r}: use Wan's image encoder."
            )
    return _shapes(
        Sizes(
            dim=config["hidden_size"],
            dim_mlp=config["intermediate_size"],
            out=VIT_H_14.out,  # of zeros that nothing reads, whatever the config says of a projection
            tokens=(config["image_size"] // config["patch_size"]) ** 2 + 1,
            patch=config["patch_size"],
            layers=config["num_hidden_layers"],
        )
    )


def shapes_of_tensors(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of the encoder that holds the native tensors `found`."""
    _, tokens, dim = found["visual.pos_embedding"]
    return _shapes(
        Sizes(
            dim=dim,
            dim_mlp=found["visual.transformer.0.mlp.0.weight"][0],
            out=found["visual.head"][1],
            tokens=tokens,
            patch=found["visual.patch_embedding.weight"][-1],
            layers=len({name.split(".")[2] for name in found if name.startswith("visual.transformer.")}),
        )
    )


def lightx2v_shapes() -> dict[str, tuple[int, ...]]:
    """Native names and shapes of ViT-H/14."""
    return _shapes(VIT_H_14)


def is_quantized(name: str) -> bool:
    """Attention's and the MLP's linears."""
    return re.fullmatch(r"visual\.transformer\.\d+\.(attn\.(to_qkv|proj)|mlp\.[02])\.weight", name) is not None


def is_left_out(name: str) -> bool:
    """The text half: Wan has a text encoder of its own."""
    return name.startswith("textual.")


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
    """Up to its fourth version transformers put `vision_model.` before all; positions are counted, not learnt."""
    name = name.removeprefix("vision_model.")
    return None if name == "embeddings.position_ids" else name


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    dim = sizes.dim
    shapes: dict[str, tuple[int, ...]] = {
        "log_scale": (),
        "visual.cls_embedding": (1, 1, dim),
        "visual.pos_embedding": (1, sizes.tokens, dim),
        "visual.head": (dim, sizes.out),
        "visual.patch_embedding.weight": (dim, 3, sizes.patch, sizes.patch),
        **_norm("visual.pre_norm", dim),
    }
    for layer in (f"visual.transformer.{index}" for index in range(sizes.layers)):
        shapes |= _norm(f"{layer}.norm1", dim) | _norm(f"{layer}.norm2", dim)
        shapes |= _linear(f"{layer}.attn.to_qkv", 3 * dim, dim) | _linear(f"{layer}.attn.proj", dim, dim)
        shapes |= _linear(f"{layer}.mlp.0", sizes.dim_mlp, dim) | _linear(f"{layer}.mlp.2", dim, sizes.dim_mlp)
    return shapes | _norm("visual.post_norm", dim)


def _norm(stem: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{stem}.weight": (dim,), f"{stem}.bias": (dim,)}


def _linear(stem: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{stem}.weight": (rows, columns), f"{stem}.bias": (rows,)}
