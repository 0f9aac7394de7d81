"""Every spelling of a key leads to the tensor that it means, and to no other."""

from typing import Any

import pytest

from vq_core.families import wan
from vq_core.model.lora_keys import KeyTable, LoraPart, Target, block_in, is_additive

TO_Q = "blocks.1.attn1.to_q.weight"
SPELLINGS = {
    "diffusion_model.blocks.1.self_attn.q.lora_A.weight": Target(TO_Q, LoraPart.DOWN),
    "diffusion_model.blocks.1.self_attn.q.lora_B.weight": Target(TO_Q, LoraPart.UP),
    "diffusion_model.blocks.1.self_attn.q.lora_down.weight": Target(TO_Q, LoraPart.DOWN),
    "diffusion_model.blocks.1.self_attn.q.alpha": Target(TO_Q, LoraPart.ALPHA),
    "model.diffusion_model.blocks.1.self_attn.q.lora_up.weight": Target(TO_Q, LoraPart.UP),
    "transformer.blocks.1.attn1.to_q.lora_A.weight": Target(TO_Q, LoraPart.DOWN),
    "transformer.blocks.1.attn1.to_q.lora.up.weight": Target(TO_Q, LoraPart.UP),
    "blocks.1.attn1.to_q.lora_A.default.weight": Target(TO_Q, LoraPart.DOWN),
    "pipe.dit.blocks.1.self_attn.q.lora_B.default.weight": Target(TO_Q, LoraPart.UP),
    "base_model.model.blocks.1.self_attn.q.lora_A.weight": Target(TO_Q, LoraPart.DOWN),
    "base_model.model.diffusion_model.blocks.1.self_attn.q.lora_A": Target(TO_Q, LoraPart.DOWN),
    "lora_unet_blocks_1_self_attn_q.lora_down.weight": Target(TO_Q, LoraPart.DOWN),
    "lora_unet_blocks_1_self_attn_q.lora_up.weight": Target(TO_Q, LoraPart.UP),
    "lora_unet_blocks_1_self_attn_q.alpha": Target(TO_Q, LoraPart.ALPHA),
    "lora_unet_blocks_1_attn1_to_out_0.lora_up.weight": Target("blocks.1.attn1.to_out.0.weight", LoraPart.UP),
    "transformer.blocks.1.attn1.to_q.lora_B.bias": Target("blocks.1.attn1.to_q.bias", LoraPart.UP_BIAS),
    "diffusion_model.blocks.0.self_attn.q.diff": Target("blocks.0.attn1.to_q.weight", LoraPart.DIFF),
    "diffusion_model.blocks.0.self_attn.q.diff_b": Target("blocks.0.attn1.to_q.bias", LoraPart.DIFF),
    "diffusion_model.blocks.0.self_attn.norm_q.diff": Target("blocks.0.attn1.norm_q.weight", LoraPart.DIFF),
    # The native norm3 is diffusers' norm2.
    "diffusion_model.blocks.0.norm3.diff": Target("blocks.0.norm2.weight", LoraPart.DIFF),
    "diffusion_model.blocks.0.norm3.diff_b": Target("blocks.0.norm2.bias", LoraPart.DIFF),
    "blocks.0.norm2.diff": Target("blocks.0.norm2.weight", LoraPart.DIFF),
    "diffusion_model.blocks.0.diff_m": Target("blocks.0.scale_shift_table", LoraPart.DIFF),
    "diffusion_model.blocks.0.modulation.diff": Target("blocks.0.scale_shift_table", LoraPart.DIFF),
    "diffusion_model.blocks.0.modulation.diff_m": Target("blocks.0.scale_shift_table", LoraPart.DIFF),
    "transformer.blocks.0.scale_shift_table.diff": Target("blocks.0.scale_shift_table", LoraPart.DIFF),
    "diffusion_model.head.modulation.diff": Target("scale_shift_table", LoraPart.DIFF),
    "diffusion_model.head.diff_m": Target("scale_shift_table", LoraPart.DIFF),
    "diffusion_model.head.head.lora_down.weight": Target("proj_out.weight", LoraPart.DOWN),
    "diffusion_model.patch_embedding.diff_b": Target("patch_embedding.bias", LoraPart.DIFF),
    "diffusion_model.text_embedding.0.lora_A.weight": Target(
        "condition_embedder.text_embedder.linear_1.weight", LoraPart.DOWN
    ),
    "diffusion_model.time_projection.1.diff": Target("condition_embedder.time_proj.weight", LoraPart.DIFF),
    "diffusion_model.blocks.0.cross_attn.k_img.lora_B.weight": Target("blocks.0.attn2.add_k_proj.weight", LoraPart.UP),
    "diffusion_model.img_emb.proj.1.lora_B.weight": Target(
        "condition_embedder.image_embedder.ff.net.0.proj.weight", LoraPart.UP
    ),
}


@pytest.mark.parametrize(("key", "target"), SPELLINGS.items(), ids=SPELLINGS.keys())
def test_spellings(i2v_config: dict[str, Any], key: str, target: Target) -> None:
    assert KeyTable(wan.topology(i2v_config).tensors, wan).resolve(key) == target


@pytest.mark.parametrize(
    "key",
    [
        "diffusion_model.blocks.9.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.1.self_attn.q.weight",
        "text_encoder.layers.0.q.lora_A.weight",
        "diffusion_model.blocks.1.self_attn.q.lokr_w1",
        "diffusion_model.blocks.1.norm3.diff_m",
        "step",
    ],
)
def test_what_stands_for_nothing(i2v_config: dict[str, Any], key: str) -> None:
    assert KeyTable(wan.topology(i2v_config).tensors, wan).resolve(key) is None


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("underscored", [False, True])
def test_every_weight_and_bias_is_reached_and_none_is_confused(
    wan_config: dict[str, Any], native: bool, underscored: bool
) -> None:
    tensors = wan.topology(wan_config).tensors
    table = KeyTable(tensors, wan)
    for tensor in tensors:
        spelled = wan.to_native(tensor) if native else tensor
        stem, _, kind = spelled.rpartition(".")
        ending = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m", "scale_shift_table": "diff_m"}.get(kind)
        if ending is None or not stem:
            continue
        key = f"lora_unet_{stem.replace('.', '_')}.{ending}" if underscored else f"diffusion_model.{stem}.{ending}"
        assert table.resolve(key) == Target(tensor, LoraPart.DIFF)


@pytest.mark.parametrize(
    ("key", "additive"),
    [
        ("blocks.0.self_attn.q.lora_A.weight", True),
        ("blocks.0.self_attn.q.dora_scale", False),
        ("blocks.0.attn1.to_q.lora_magnitude_vector.default.weight", False),
        ("lora_unet_patch_embedding.lora_mid.weight", False),
        ("lora_unet_blocks_0_self_attn_q.hada_w1_a", False),
        ("lora_unet_blocks_0_self_attn_q.lokr_w2", False),
        ("lora_unet_blocks_0_self_attn_q.oft_blocks", False),
        ("lora_unet_blocks_0_norm3.w_norm", False),
        ("diffusion_model.patch_embedding.set_weight", False),
        ("diffusion_model.blocks.0.self_attn.norm_q.diff", True),
    ],
)
def test_what_is_not_merged_by_adding(key: str, additive: bool) -> None:
    assert is_additive(key) == additive


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("diffusion_model.blocks.12.self_attn.q.alpha", 12),
        ("lora_unet_blocks_7_ffn_0.lora_up.weight", 7),
        ("diffusion_model.vace_blocks.3.self_attn.q.diff", None),
        ("transformer.proj_out.lora_A.weight", None),
    ],
)
def test_which_block_a_key_is_about(key: str, block: int | None) -> None:
    assert block_in(key) == block
