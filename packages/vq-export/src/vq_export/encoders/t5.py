"""The text encoder: the encoder half of umt5-xxl, without biases, a table of relative positions in every block."""

import re
from collections.abc import Mapping
from typing import Any

import torch

KEY = "t5"
FOLDER = "text_encoder"
CLASS = "UMT5EncoderModel"
FILE = "models_t5_umt5-xxl-enc"
DTYPE = torch.bfloat16
QUANTIZED = re.compile(r"blocks\.\d+\.(attn\.[qkvo]|ffn\.(gate\.0|fc1|fc2))\.weight")
LEFT_OUT = ()
FUNCTION = {
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": 1e-6,
    "relative_attention_max_distance": 128,
}

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


def shapes_of_config(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Native names and shapes for transformers' `config`."""
    return _shapes(
        vocabulary=config["vocab_size"],
        dim=config["d_model"],
        dim_attn=config["num_heads"] * config["d_kv"],
        dim_ffn=config["d_ff"],
        heads=config["num_heads"],
        buckets=config["relative_attention_num_buckets"],
        layers=config["num_layers"],
    )


def shapes_of_tensors(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of the encoder that holds the native tensors `found`."""
    vocabulary, dim = found["token_embedding.weight"]
    buckets, heads = found["blocks.0.pos_embedding.embedding.weight"]
    return _shapes(
        vocabulary=vocabulary,
        dim=dim,
        dim_attn=found["blocks.0.attn.q.weight"][0],
        dim_ffn=found["blocks.0.ffn.fc1.weight"][0],
        heads=heads,
        buckets=buckets,
        layers=len({name.split(".")[1] for name in found if name.startswith("blocks.")}),
    )


def in_transformers(name: str) -> tuple[str, ...]:
    """Transformers' name of the native tensor `name`."""
    if name in _OUTSIDE:
        return (_OUTSIDE[name],)
    _, block, rest = name.split(".", 2)
    return (f"encoder.block.{block}.{_IN_BLOCK[rest]}",)


def own_name(name: str) -> str | None:
    """One name for the token embedding, which has two and may be stored under both."""
    return "shared.weight" if name == "encoder.embed_tokens.weight" else name


def _shapes(
    vocabulary: int, dim: int, dim_attn: int, dim_ffn: int, heads: int, buckets: int, layers: int
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (vocabulary, dim)}
    for block in (f"blocks.{index}" for index in range(layers)):
        shapes |= {
            f"{block}.norm1.weight": (dim,),
            **{f"{block}.attn.{part}.weight": (dim_attn, dim) for part in "qkv"},
            f"{block}.attn.o.weight": (dim, dim_attn),
            f"{block}.norm2.weight": (dim,),
            f"{block}.ffn.gate.0.weight": (dim_ffn, dim),
            f"{block}.ffn.fc1.weight": (dim_ffn, dim),
            f"{block}.ffn.fc2.weight": (dim, dim_ffn),
            f"{block}.pos_embedding.embedding.weight": (buckets, heads),
        }
    return shapes | {"norm.weight": (dim,)}


LIGHTX2V_SHAPES = _shapes(vocabulary=256384, dim=4096, dim_attn=4096, dim_ffn=10240, heads=64, buckets=32, layers=24)
