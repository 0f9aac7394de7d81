"""Shapes of the published models, and of one for tests."""

from collections.abc import Mapping
from typing import Any


def _wan(heads: int, ffn: int, blocks: int, **other: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2], "num_attention_heads": heads,
        "attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256,
        "ffn_dim": ffn, "num_layers": blocks, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
        "image_dim": None, "added_kv_proj_dim": None, "rope_max_seq_len": 1024, "pos_embed_seq_len": None,
    }  # fmt: skip
    return config | other


MODEL_SIZES: Mapping[str, Mapping[str, Any]] = {
    "14b": _wan(40, 13824, 40, in_channels=36, image_dim=1280, added_kv_proj_dim=5120),
    "14b-t2v": _wan(40, 13824, 40),
    "a14b": _wan(40, 13824, 40, in_channels=36),
    "5b": _wan(24, 14336, 30, in_channels=48, out_channels=48),
    "1.3b": _wan(12, 8960, 30),
    "tiny": _wan(2, 1024, 2, in_channels=36, image_dim=64, added_kv_proj_dim=256, text_dim=64),
}
"""Configurations by size: Wan2.1 I2V and T2V 14B, one expert of Wan2.2 I2V A14B, Wan2.2 TI2V 5B, Wan2.1 T2V 1.3B, and
one for tests."""
