"""Configurations of Wan transformers: which are known, and their native spelling."""

from collections.abc import Mapping
from math import prod
from typing import Any

from vq_core.errors import VqError
from vq_core.families.wan.kinds import is_vace, model_type

# diffusers' component → folder of that expert in a native Wan 2.2 model
EXPERT_FOLDERS = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
COMPONENTS = tuple(EXPERT_FOLDERS)


VACE_CLASS = "WanVACETransformer3DModel"
CLASSES = ("WanTransformer3DModel", VACE_CLASS)


def matches(config: Mapping[str, Any]) -> bool:
    """Is `config` (a transformer's config.json from diffusers) one of this family?"""
    return config.get("_class_name") in CLASSES


def inner_dim(config: Mapping[str, Any]) -> int:
    """Width of the transformer."""
    return int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def expert_folders(components: tuple[str, ...]) -> dict[str, str]:
    """Folder of each component in a native model: the model's own for one transformer, two for Wan 2.2's experts."""
    return {components[0]: ""} if len(components) == 1 else {name: EXPERT_FOLDERS[name] for name in components}


def native_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The native config.json (Wan-AI's keys, which LightX2V indexes directly) for a diffusers `config`.

    Raises:
        VqError: no published Wan has such channels.
    """
    names = {"_class_name": "VaceWanModel" if is_vace(config) else "WanModel", "model_type": model_type(config)}
    return names | _native_keys(config)


def _native_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    native = {
        "dim": inner_dim(config),
        "ffn_dim": config["ffn_dim"],
        "freq_dim": config["freq_dim"],
        "num_heads": config["num_attention_heads"],
        "num_layers": config["num_layers"],
        "in_dim": config["in_channels"],
        "out_dim": config["out_channels"],
        "text_dim": config["text_dim"],
        "text_len": 512,
        "patch_size": list(config["patch_size"]),
        "qk_norm": config["qk_norm"] is not None,
        "cross_attn_norm": config["cross_attn_norm"],
        "eps": config["eps"],
        "window_size": [-1, -1],
    }
    if is_vace(config):
        native |= {"vace_layers": list(config["vace_layers"]), "vace_in_dim": config["vace_in_channels"]}
    return native


def patch_elements(config: Mapping[str, Any]) -> int:
    """Elements of one patch: frames · height · width."""
    return prod(config["patch_size"])


# What a native config.json says that the shapes of the tensors say too.
_SHAPED = ("dim", "ffn_dim", "freq_dim", "num_layers", "in_dim", "out_dim", "text_dim", "vace_in_dim")
HEAD_DIM = 128
"""Channels of an attention head in every published Wan."""
ROPE_LENGTH = 1024
"""Positions per axis in every published Wan; native code has it built in."""


def is_native_config(config: Mapping[str, Any]) -> bool:
    """Is `config` a config.json of Wan-AI's own, or one of LightX2V's with the same keys?"""
    if "_class_name" in config:
        return config["_class_name"] in ("WanModel", "VaceWanModel")
    return {"dim", "ffn_dim", "num_heads", "num_layers"} <= config.keys()


def diffusers_config(
    shapes: Mapping[str, tuple[int, ...]], native: Mapping[str, Any] | None, where: str
) -> dict[str, Any]:
    """Diffusers' config.json of the transformer whose tensors have these `shapes`, by diffusers' names.

    Published native files leave out what their code has built in, so that shapes tell more than they do. Of `native`
    only what no shape tells is taken: the number of heads, eps, and which blocks VACE steers.

    Args:
        shapes: of all tensors.
        native: Wan-AI's config.json; without it every head has 128 channels, as in every published Wan.
        where: what the tensors are in, for messages.

    Raises:
        VqError: a tensor is missing that tells a size, `native` contradicts the shapes, or they do not tell the number
            of heads.
    """
    said = native or {}

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in shapes:
            raise VqError(f"{where} lacks the tensor `{name}`: get the missing shard.")
        if len(shapes[name]) != rank:
            raise VqError(
                f"`{name}` in {where} is {list(shapes[name])} and should have {rank} dimensions: get it again."
            )
        return shapes[name]

    embedder = "condition_embedder"
    dim, in_channels, *patch = shape("patch_embedding.weight", 5)
    if "num_heads" not in said and dim % HEAD_DIM:
        raise VqError(
            f"{where} does not tell its number of attention heads, because its width {dim} is not a multiple of "
            f"{HEAD_DIM}: put the model's config.json beside it."
        )
    heads = said.get("num_heads", dim // HEAD_DIM)
    if type(heads) is not int or heads < 1 or dim % heads:
        raise VqError(
            f"config.json says num_heads={heads!r:.80}, which does not divide the width {dim} of {where}: "
            "get a matching pair."
        )
    image_encoder = f"{embedder}.image_embedder.norm1.weight" in shapes
    positions = f"{embedder}.image_embedder.pos_embed"
    config = {
        "_class_name": "WanTransformer3DModel",
        "patch_size": patch,
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": in_channels,
        "out_channels": shape("proj_out.weight", 2)[0] // prod(patch),
        "text_dim": shape(f"{embedder}.text_embedder.linear_1.weight", 2)[1],
        "freq_dim": shape(f"{embedder}.time_embedder.linear_1.weight", 2)[1],
        "ffn_dim": shape("blocks.0.ffn.net.0.proj.weight", 2)[0],
        "num_layers": _num_blocks(shapes, "blocks."),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "qk_norm": "rms_norm_across_heads" if "blocks.0.attn1.norm_q.weight" in shapes else None,
        "eps": said.get("eps", 1e-6),
        "image_dim": shape(f"{embedder}.image_embedder.norm1.weight", 1)[0] if image_encoder else None,
        "added_kv_proj_dim": shape("blocks.0.attn2.add_k_proj.weight", 2)[1] if image_encoder else None,
        "pos_embed_seq_len": shape(positions, 3)[1] if positions in shapes else None,
        "rope_max_seq_len": ROPE_LENGTH,
    }
    if "vace_patch_embedding.weight" in shapes:
        config |= {
            "_class_name": "WanVACETransformer3DModel",
            "vace_in_channels": shape("vace_patch_embedding.weight", 5)[1],
            "vace_layers": said.get("vace_layers") or _vace_layers(shapes, where),
        }
    derived = _native_keys(config)
    for key in _SHAPED:
        if key in said and key in derived and said[key] != derived[key]:
            raise VqError(
                f"config.json says {key}={said[key]!r} and the tensors in {where} say {derived[key]!r}: "
                "get a matching pair, with every shard."
            )
    return config


def _num_blocks(shapes: Mapping[str, tuple[int, ...]], stack: str) -> int:
    numbers = {name.removeprefix(stack).partition(".")[0] for name in shapes if name.startswith(stack)}
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)


def _vace_layers(shapes: Mapping[str, tuple[int, ...]], where: str) -> list[int]:
    """The blocks that VACE steers where nothing says it: evenly spread, as in every published model."""
    num_layers, steering = _num_blocks(shapes, "blocks."), _num_blocks(shapes, "vace_blocks.")
    if not steering or num_layers % steering:
        raise VqError(f"{where} does not tell which blocks VACE steers: put the model's config.json beside it.")
    return list(range(0, num_layers, num_layers // steering))
