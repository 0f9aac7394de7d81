"""Configurations of Wan transformers: which are known, and their native spelling."""

from collections.abc import Mapping
from math import prod
from typing import Any

# diffusers' component → folder of that expert in a native Wan 2.2 model
EXPERT_FOLDERS = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
COMPONENTS = tuple(EXPERT_FOLDERS)


VACE_CLASS = "WanVACETransformer3DModel"
CLASSES = ("WanTransformer3DModel", VACE_CLASS)


def matches(config: Mapping[str, Any]) -> bool:
    """Is `config` (a transformer's config.json from diffusers) one of this family?"""
    return config.get("_class_name") in CLASSES


def is_vace(config: Mapping[str, Any]) -> bool:
    """Has the transformer a second stack of blocks, which steers the first by videos, masks and reference images?"""
    return config.get("vace_layers") is not None


def inner_dim(config: Mapping[str, Any]) -> int:
    """Width of the transformer."""
    return int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def expert_folders(components: tuple[str, ...]) -> dict[str, str]:
    """Folder of each component in a native model: the model's own for one transformer, two for Wan 2.2's experts."""
    return {components[0]: ""} if len(components) == 1 else {name: EXPERT_FOLDERS[name] for name in components}


def native_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The native config.json (Wan-AI's keys, which LightX2V indexes directly) for a diffusers `config`."""
    native = {
        "_class_name": "VaceWanModel" if is_vace(config) else "WanModel",
        "model_type": _model_type(config),
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


def _model_type(config: Mapping[str, Any]) -> str:
    if is_vace(config):
        return "vace"
    if config.get("pos_embed_seq_len") is not None:
        return "flf2v"  # first and last frame: their image tokens are told apart by position
    if config["in_channels"] == 2 * config["out_channels"] + 4:
        return "i2v"  # noise, a mask of 4 channels, the image's latent
    # The small Wan 2.2 model takes text or an image through the same channels, those of its own VAE.
    return "ti2v" if config["in_channels"] == 48 else "t2v"


def patch_elements(config: Mapping[str, Any]) -> int:
    """Elements of one patch: frames · height · width."""
    return prod(config["patch_size"])
