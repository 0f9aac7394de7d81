from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.families.wan import diffusers_config, expert_folders, is_native_config, matches, native_config, topology

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


# --- and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimal", [False, True])
def test_diffusers_configuration_is_the_inverse(wan_config: dict[str, Any], minimal: bool) -> None:
    native = native_config(wan_config)
    if minimal:  # what no shape tells
        native = {key: native[key] for key in ("num_heads", "eps", "vace_layers") if key in native}
    back = diffusers_config(topology(wan_config).tensors, native, "here")
    assert back.pop("rope_max_seq_len") == 1024  # native files do not say it
    assert back == {key: value for key, value in wan_config.items() if key != "rope_max_seq_len"}
    assert native_config(back) == native_config(wan_config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_dim": None, "added_kv_proj_dim": None, "in_channels": 16, "num_attention_heads": 12, "ffn_dim": 8960},
        TI2V_5B | {"image_dim": None, "added_kv_proj_dim": None},
        {"pos_embed_seq_len": 514},
    ],
)
def test_shapes_alone_tell_published_models(changes: dict[str, Any]) -> None:
    config = WAN21_I2V_14B | {"pos_embed_seq_len": None} | changes
    assert diffusers_config(topology(config).tensors, None, "here") == config


def test_published_native_configuration_is_enough() -> None:
    published = {key: NATIVE_I2V_14B[key] for key in ("dim", "eps", "ffn_dim", "freq_dim", "in_dim", "model_type")}
    published |= {"num_heads": 40, "num_layers": 40, "out_dim": 16, "text_len": 512, "_class_name": "WanModel"}
    assert is_native_config(published)
    back = diffusers_config(topology(WAN21_I2V_14B).tensors, published, "here")
    assert back == WAN21_I2V_14B | {"pos_embed_seq_len": None}


def test_vace_by_its_shapes() -> None:
    config = WAN21_I2V_14B | {"image_dim": None, "added_kv_proj_dim": None, "in_channels": 16, "num_layers": 4}
    shapes = topology(config).tensors | {"vace_patch_embedding.weight": (5120, 96, 1, 2, 2)}
    shapes |= {f"vace_blocks.{block}.proj_out.bias": (5120,) for block in (0, 1)}
    derived = diffusers_config(shapes, None, "here")
    assert (derived["_class_name"], derived["vace_in_channels"]) == ("WanVACETransformer3DModel", 96)
    assert derived["vace_layers"] == [0, 2]
    assert diffusers_config(shapes, {"vace_layers": [0, 3], "num_heads": 40}, "here")["vace_layers"] == [0, 3]
    with pytest.raises(
        VqError, match="here does not tell which blocks VACE steers: put the model's config.json beside"
    ):
        diffusers_config(shapes | {"vace_blocks.2.proj_out.bias": (5120,)}, None, "here")


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((64,), r"`proj_out.weight` in here is \[64\] and should have 2 dimensions"),
        (None, "here lacks the tensor `proj_out.weight`"),
    ],
)
def test_refuses_shapes_that_are_not_there(
    i2v_config: dict[str, Any], shape: tuple[int, ...] | None, sentence: str
) -> None:
    shapes = {name: it for name, it in topology(i2v_config).tensors.items() if name != "proj_out.weight"}
    with pytest.raises(VqError, match=sentence):
        diffusers_config(shapes if shape is None else shapes | {"proj_out.weight": shape}, {"num_heads": 4}, "here")


def test_refuses_to_guess_the_number_of_heads(i2v_config: dict[str, Any]) -> None:
    with pytest.raises(VqError, match="does not tell its number of attention heads.*put the model's config.json"):
        diffusers_config(topology(i2v_config).tensors, None, "here")


@pytest.mark.parametrize("key", ["dim", "ffn_dim", "freq_dim", "num_layers", "in_dim", "out_dim", "text_dim"])
def test_refuses_a_native_configuration_of_another_model(i2v_config: dict[str, Any], key: str) -> None:
    native = native_config(i2v_config)
    with pytest.raises(VqError, match=f"config.json says {key}=7 and the tensors in here say {native[key]}"):
        diffusers_config(topology(i2v_config).tensors, native | {key: 7}, "here")


@pytest.mark.parametrize(
    ("config", "native"),
    [
        ({"_class_name": "WanModel"}, True),
        ({"_class_name": "VaceWanModel"}, True),
        ({"_class_name": "WanModel_S2V", "dim": 1, "ffn_dim": 1, "num_heads": 1, "num_layers": 1}, False),
        ({"dim": 1, "ffn_dim": 1, "num_heads": 1, "num_layers": 1}, True),
        (WAN21_I2V_14B, False),
        ({}, False),
    ],
)
def test_native_configurations_are_known_by_class_or_keys(config: dict[str, Any], native: bool) -> None:
    assert is_native_config(config) is native


@pytest.mark.parametrize("heads", [0, -1, 7, "40", 2.0, True, None])
def test_refuses_heads_that_do_not_divide_the_width(heads: object) -> None:
    shapes = topology(WAN21_I2V_14B).tensors
    with pytest.raises(VqError, match="config.json says num_heads=.*, which does not divide the width 5120 of x"):
        diffusers_config(shapes, {"num_heads": heads}, "x")
