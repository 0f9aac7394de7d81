"""The text encoder: the encoder half of umt5-xxl, without biases, a table of relative positions in every block."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vq_core.errors import VqError

KEY = "t5"
FOLDER = "text_encoder"
CLASS = "UMT5EncoderModel"
FILE = "models_t5_umt5-xxl-enc"
DTYPE = torch.bfloat16

# Native → transformers, in a block and outside.
_IN_BLOCK = {
    "norm1.weight": "layer.0.layer_norm.weight",
    "attn.q.weight": "layer.0.SelfAttention.q.weight",
    "attn.k.weight": "layer.0.SelfAttention.k.weight",
    "attn.v.weight": "layer.0.SelfAttention.v.weight",
    "attn.o.weight": "layer.0.SelfAttention.o.weight",
    "pos_embedding.embedding.weight": "layer.0.SelfAttention.relative_attention_bias.weight",
    "norm2.weight": "layer.1.layer_norm.weight",
    "ffn.gate.0.weight": "layer.1.DenseReluDense.wi_0.weight",  # the one that GELU follows
    "ffn.fc1.weight": "layer.1.DenseReluDense.wi_1.weight",
    "ffn.fc2.weight": "layer.1.DenseReluDense.wo.weight",
}
_OUTSIDE = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}

# What LightX2V's module computes, by the key of transformers' config.json.
_FUNCTION = {
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": 1e-6,
    "relative_attention_max_distance": 128,
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a umt5 encoder."""

    vocabulary: int
    dim: int
    dim_attn: int
    dim_ffn: int
    heads: int
    buckets: int
    layers: int


UMT5_XXL = Sizes(256384, 4096, 4096, 10240, 64, 32, 24)


def shapes_of_config(config: Mapping[str, Any], where: object) -> dict[str, tuple[int, ...]]:
    """Native names and shapes for transformers' `config`.

    Raises:
        VqError: it is that of another function than LightX2V's.
    """
    for key, value in _FUNCTION.items():
        if config.get(key) != value:
            raise VqError(f"{where} says {key} {config.get(key)!r}, and LightX2V's T5 runs {value!r}: use Wan's umt5.")
    return _shapes(
        Sizes(
            vocabulary=config["vocab_size"],
            dim=config["d_model"],
            dim_attn=config["num_heads"] * config["d_kv"],
            dim_ffn=config["d_ff"],
            heads=config["num_heads"],
            buckets=config["relative_attention_num_buckets"],
            layers=config["num_layers"],
        )
    )


def shapes_of_tensors(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of the encoder that holds the native tensors `found`."""
    vocabulary, dim = found["token_embedding.weight"]
    buckets, heads = found["blocks.0.pos_embedding.embedding.weight"]
    return _shapes(
        Sizes(
            vocabulary=vocabulary,
            dim=dim,
            dim_attn=found["blocks.0.attn.q.weight"][0],
            dim_ffn=found["blocks.0.ffn.fc1.weight"][0],
            heads=heads,
            buckets=buckets,
            layers=len({name.split(".")[1] for name in found if name.startswith("blocks.")}),
        )
    )


def lightx2v_shapes() -> dict[str, tuple[int, ...]]:
    """Native names and shapes of umt5-xxl."""
    return _shapes(UMT5_XXL)


def is_quantized(name: str) -> bool:
    """Attention's and the feed-forward's linears."""
    return re.fullmatch(r"blocks\.\d+\.(attn\.[qkvo]|ffn\.(gate\.0|fc1|fc2))\.weight", name) is not None


def is_left_out(name: str) -> bool:
    """Everything is loaded."""
    return False


def in_transformers(name: str) -> tuple[str, ...]:
    """Transformers' name of the native tensor `name`."""
    if name in _OUTSIDE:
        return (_OUTSIDE[name],)
    _, block, rest = name.split(".", 2)
    return (f"encoder.block.{block}.{_IN_BLOCK[rest]}",)


def own_name(name: str) -> str | None:
    """The token embedding goes by two names, or stands there twice."""
    return "shared.weight" if name == "encoder.embed_tokens.weight" else name


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (sizes.vocabulary, sizes.dim)}
    for block in (f"blocks.{index}" for index in range(sizes.layers)):
        shapes |= {
            f"{block}.norm1.weight": (sizes.dim,),
            **{f"{block}.attn.{part}.weight": (sizes.dim_attn, sizes.dim) for part in "qkv"},
            f"{block}.attn.o.weight": (sizes.dim, sizes.dim_attn),
            f"{block}.norm2.weight": (sizes.dim,),
            f"{block}.ffn.gate.0.weight": (sizes.dim_ffn, sizes.dim),
            f"{block}.ffn.fc1.weight": (sizes.dim_ffn, sizes.dim),
            f"{block}.ffn.fc2.weight": (sizes.dim, sizes.dim_ffn),
            f"{block}.pos_embedding.embedding.weight": (sizes.buckets, sizes.heads),
        }
    return shapes | {"norm.weight": (sizes.dim,)}
