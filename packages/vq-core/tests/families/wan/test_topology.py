"""The topology against diffusers' own module, and the groups and sinks of each layout."""

import re
from typing import Any

import pytest
import torch

from vq_core.errors import VqError
from vq_core.families.wan import llmc_groups, topology
from vq_core.topology import LinearSink, ModulationSink, NormSink, block_of

# The published widths, with two blocks instead of thirty or forty.
WAN_14B = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
}
IMAGE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
TI2V_5B = {"in_channels": 48, "out_channels": 48, "num_attention_heads": 24, "ffn_dim": 14336}
VACE = {"vace_layers": [0, 1], "vace_in_channels": 96}
LAYOUTS: dict[str, dict[str, Any]] = {
    "Wan2.1-T2V-14B": WAN_14B,
    "Wan2.1-T2V-1.3B": WAN_14B | {"num_attention_heads": 12, "ffn_dim": 8960},
    "Wan2.1-I2V-14B": WAN_14B | IMAGE,
    "Wan2.1-FLF2V-14B": WAN_14B | IMAGE | {"pos_embed_seq_len": 514},
    "Wan2.1-VACE-1.3B": WAN_14B | {"num_attention_heads": 12, "ffn_dim": 8960} | VACE,
    "Wan2.1-VACE-14B": WAN_14B | VACE,
    "Wan2.2-T2V-A14B": WAN_14B,
    "VACE with an image encoder": WAN_14B | VACE | {"image_dim": 1280, "added_kv_proj_dim": 5120},
    "Wan2.2-I2V-A14B": WAN_14B | {"in_channels": 36},
    "Wan2.2-TI2V-5B": WAN_14B | TI2V_5B,
    "without cross_attn_norm": WAN_14B | {"cross_attn_norm": False},
}


@pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_tensors_are_those_of_diffusers(config: dict[str, Any]) -> None:
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    with torch.device("meta"):
        model = (WanVACETransformer3DModel if "vace_layers" in config else WanTransformer3DModel)(**config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert dict(topology(config).tensors) == expected
    block_linears = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if re.match(r"(vace_)?blocks\.", name) and isinstance(module, torch.nn.Linear)
        # Into and out of VACE's stack, runtimes multiply in full precision.
        if not name.endswith((".proj_in", ".proj_out"))
    }
    assert {
        linear.name: (linear.in_features, linear.out_features) for linear in topology(config).linears
    } == block_linears


def test_groups_cover_every_linear_once(wan_config: dict[str, Any]) -> None:
    wan = topology(wan_config)
    read = [name for group in wan.groups for name in group.reads]
    assert sorted(read) == sorted(linear.name for linear in wan.linears)
    blocks = wan_config["num_layers"] + len(wan_config.get("vace_layers", ()))
    assert len(wan.linears) == blocks * (10 if wan_config["image_dim"] is None else 12)
    for group in wan.groups:
        assert {wan.linear(name).in_features for name in group.reads} == {group.in_features}


def test_sinks_exist_and_have_the_length_of_the_gain(wan_config: dict[str, Any]) -> None:
    wan = topology(wan_config)
    for group in wan.groups:
        match group.sink:
            case NormSink(norm):
                assert wan.tensors[f"{norm}.weight"] == wan.tensors[f"{norm}.bias"] == (group.in_features,)
            case LinearSink(linears):
                for linear in linears:
                    assert wan.tensors[f"{linear}.weight"][0] == group.in_features
                    assert wan.tensors[f"{linear}.bias"] == (group.in_features,)
            case ModulationSink(gain):
                assert gain not in wan.tensors
                assert wan.gains[gain] == group.in_features


def test_sinks_of_the_image_to_video_layout(i2v_config: dict[str, Any]) -> None:
    wan = topology(i2v_config)
    sinks = {group.name: group.sink for group in wan.groups}
    for block in ("blocks.0", "blocks.1"):
        assert sinks[f"{block}.attn1.qkv"] == ModulationSink(f"{block}.norm1.gain")
        assert sinks[f"{block}.attn1.out"] == LinearSink((f"{block}.attn1.to_v",))
        assert sinks[f"{block}.attn2.q"] == NormSink(f"{block}.norm2")
        assert sinks[f"{block}.attn2.out"] == LinearSink((f"{block}.attn2.to_v", f"{block}.attn2.add_v_proj"))
        assert sinks[f"{block}.ffn.up"] == ModulationSink(f"{block}.norm3.gain")
        assert sinks[f"{block}.ffn.down"] is None
    assert sinks["text"] == LinearSink(("condition_embedder.text_embedder.linear_2",))
    assert sinks["image"] == NormSink("condition_embedder.image_embedder.norm2")
    assert len(sinks) == 2 * 6 + 2


def test_vace_s_blocks_have_the_sinks_of_the_others(vace_config: dict[str, Any]) -> None:
    wan = topology(vace_config)
    of_main, of_vace = (
        {name.removeprefix(f"{block}."): repr(group.sink).replace(block, "BLOCK") for name, group in groups.items()}
        for block in ("blocks.1", "vace_blocks.1")
        for groups in [{group.name: group for group in wan.groups if group.name.startswith(f"{block}.")}]
    )
    assert len(of_vace) == 6
    assert of_vace == of_main


def test_the_text_group_spans_both_stacks_of_vace(vace_config: dict[str, Any]) -> None:
    text = topology(vace_config).group_of("vace_blocks.1.attn2.to_v")
    assert (text.name, len(text.reads)) == ("text", 2 * (3 + 2))


def test_vace_s_projections_are_not_quantized(vace_config: dict[str, Any]) -> None:
    wan = topology(vace_config)
    assert not [linear.name for linear in wan.linears if "proj_in" in linear.name or "proj_out" in linear.name]
    assert {name for name in wan.tensors if ".proj_in." in name} == {
        f"vace_blocks.0.proj_in.{p}" for p in ("weight", "bias")
    }
    assert wan.shards()["vace_block_1"][-2:] == ("vace_blocks.1.proj_out.weight", "vace_blocks.1.proj_out.bias")
    assert "vace_patch_embedding.weight" in wan.shards()["non_block"]


def test_context_groups_span_all_blocks_and_read_tokens_of_their_own(i2v_config: dict[str, Any]) -> None:
    wan = topology(i2v_config)
    text, image = wan.group_of("blocks.1.attn2.to_k"), wan.group_of("blocks.1.attn2.add_v_proj")
    assert set(text.reads) == {f"blocks.{block}.attn2.{name}" for block in (0, 1) for name in ("to_k", "to_v")}
    assert set(image.reads) == {f"blocks.{block}.attn2.{name}_proj" for block in (0, 1) for name in ("add_k", "add_v")}
    assert (text.sequence, image.sequence) == ("text", "image")
    assert {group.sequence for group in wan.groups if group not in (text, image)} == {"video"}


def test_text_to_video_has_no_image_value_projection(t2v_config: dict[str, Any]) -> None:
    wan = topology(t2v_config)
    assert wan.group_of("blocks.0.attn2.to_out.0").sink == LinearSink(("blocks.0.attn2.to_v",))
    assert "image" not in {group.name for group in wan.groups}


def test_without_an_affine_cross_norm_its_group_cannot_be_smoothed(t2v_config: dict[str, Any]) -> None:
    wan = topology(t2v_config | {"cross_attn_norm": False})
    assert wan.group_of("blocks.0.attn2.to_q").sink is None


def test_llmc_groups(wan_config: dict[str, Any]) -> None:
    names = {group.name for group in llmc_groups(topology(wan_config))}
    blocks = [f"blocks.{block}" for block in range(wan_config["num_layers"])]
    blocks += [f"vace_blocks.{block}" for block in range(len(wan_config.get("vace_layers", ())))]
    assert names == {f"{block}.{name}" for block in blocks for name in ("attn1.qkv", "attn2.q", "ffn.up")}
    assert all(block_of(name) is not None for name in names)


@pytest.mark.parametrize("key", ["num_layers", "ffn_dim", "qk_norm", "eps", "vace_layers", "vace_in_channels"])
def test_refuses_a_configuration_without_a_key(vace_config: dict[str, Any], key: str) -> None:
    del vace_config[key]
    with pytest.raises(VqError, match=rf"config\.json lacks {key}"):
        topology(vace_config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"qk_norm": "rms_norm"}, "qk_norm='rms_norm'"),
        ({"image_dim": 64}, "one of image_dim and added_kv_proj_dim without the other"),
        ({"added_kv_proj_dim": 64}, "one of image_dim and added_kv_proj_dim without the other"),
    ],
)
def test_refuses_what_was_not_derived_here(t2v_config: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        topology(t2v_config | changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in ("num_layers", "ffn_dim", "in_channels") for value in (0, -1, 10**9, 2.0, "4", True)),
        ("num_layers", [2]),
        ("image_dim", 10**9),
        ("patch_size", 2),
        ("patch_size", [1, 2]),
        ("patch_size", [1, 2, 10**9]),
        ("eps", "small"),
        ("eps", 0),
        ("vace_layers", [0, 10**9]),
        ("vace_layers", 3),
        ("vace_layers", []),
    ],
)
def test_refuses_numbers_that_no_transformer_has(vace_config: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(VqError, match=rf"config\.json says {key}="):
        topology(vace_config | {key: value})
