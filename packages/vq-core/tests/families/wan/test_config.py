from typing import Any

import pytest

from vq_core.families.wan import expert_folders, matches, native_config
from vq_core.families.wan.config import patch_elements

# As published with the models: what tells them apart, and the native configuration.
WAN21_I2V_14B = {
    "_class_name": "WanTransformer3DModel",
    "added_kv_proj_dim": 5120,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "image_dim": 1280,
    "in_channels": 36,
    "num_attention_heads": 40,
    "num_layers": 40,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}
NATIVE_I2V_14B = {
    "_class_name": "WanModel",
    "model_type": "i2v",
    "dim": 5120,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "in_dim": 36,
    "num_heads": 40,
    "num_layers": 40,
    "out_dim": 16,
    "text_dim": 4096,
    "text_len": 512,
    "patch_size": [1, 2, 2],
    "qk_norm": True,
    "cross_attn_norm": True,
    "window_size": [-1, -1],
}
TI2V_5B = {"in_channels": 48, "out_channels": 48, "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30}


def test_native_configuration() -> None:
    assert native_config(WAN21_I2V_14B) == NATIVE_I2V_14B


@pytest.mark.parametrize(
    ("changes", "model_type"),
    [
        ({}, "i2v"),
        ({"image_dim": None, "added_kv_proj_dim": None}, "i2v"),  # Wan 2.2
        ({"pos_embed_seq_len": 514}, "flf2v"),
        ({"image_dim": None, "added_kv_proj_dim": None, "in_channels": 16}, "t2v"),
        (TI2V_5B | {"image_dim": None, "added_kv_proj_dim": None}, "ti2v"),
    ],
)
def test_model_type(changes: dict[str, Any], model_type: str) -> None:
    assert native_config(WAN21_I2V_14B | changes)["model_type"] == model_type


def test_native_configuration_of_the_small_model() -> None:
    native = native_config(WAN21_I2V_14B | TI2V_5B)
    assert (native["dim"], native["ffn_dim"], native["in_dim"], native["out_dim"]) == (3072, 14336, 48, 48)
    assert (native["num_heads"], native["num_layers"]) == (24, 30)


def test_native_configuration_of_vace() -> None:
    vace = {
        "_class_name": "WanVACETransformer3DModel",
        "in_channels": 16,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "vace_layers": [0, 5, 10, 15, 20, 25, 30, 35],
        "vace_in_channels": 96,
    }
    assert native_config(WAN21_I2V_14B | vace) == NATIVE_I2V_14B | {
        "_class_name": "VaceWanModel",
        "model_type": "vace",
        "in_dim": 16,
        "vace_layers": [0, 5, 10, 15, 20, 25, 30, 35],
        "vace_in_dim": 96,
    }


def test_patch_elements() -> None:
    assert patch_elements(WAN21_I2V_14B) == 4


def test_matches_by_class_alone() -> None:
    assert matches(WAN21_I2V_14B)
    assert matches({"_class_name": "WanVACETransformer3DModel"})
    assert not matches({"_class_name": "WanAnimateTransformer3DModel"})
    assert not matches({})


def test_expert_folders() -> None:
    assert expert_folders(("transformer",)) == {"transformer": ""}
    assert expert_folders(("transformer", "transformer_2")) == {
        "transformer": "high_noise_model",
        "transformer_2": "low_noise_model",
    }
