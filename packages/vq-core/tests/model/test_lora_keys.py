"""Every spelling of a key leads to the tensor that it means, and to no other."""

from typing import Any

import pytest

from vq_core.families import wan
from vq_core.model.lora_keys import KeyTable, LoraPart, Target, block_in, is_for_second_expert, other_method, other_part

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
    "lora_unet__blocks_1_self_attn_q.lora_down.weight": Target(TO_Q, LoraPart.DOWN),
    "lora_unet__blocks__1__self_attn__q.lora_up.weight": Target(TO_Q, LoraPart.UP),
    "lycoris_blocks_1_attn1_to_q.lora_down.weight": Target(TO_Q, LoraPart.DOWN),
    "lycoris_blocks_1_attn1_to_q.lokr_w1": Target(TO_Q, LoraPart.LOKR_W1),
    "unet.blocks.1.attn1.to_q.lora_A.weight": Target(TO_Q, LoraPart.DOWN),
    "model.blocks.1.self_attn.q.hada_t2": Target(TO_Q, LoraPart.HADA_T2),
    "transformer_2.blocks.1.attn1.to_q.lora_A.weight": Target(TO_Q, LoraPart.DOWN),
    "pipe.dit2.blocks.1.self_attn.q.lora_A.my-adapter.weight": Target(TO_Q, LoraPart.DOWN),
    "high_noise_model.blocks.1.self_attn.q.lora_A": Target(TO_Q, LoraPart.DOWN),
    "module._orig_mod.blocks.1.attn1.to_q.lora_A.weight": Target(TO_Q, LoraPart.DOWN),
    "transformer.blocks.1.attn1.to_q.lora_linear_layer.up.weight": Target(TO_Q, LoraPart.UP),
    "diffusion_model.blocks.1.self_attn.q.dora_scale": Target(TO_Q, LoraPart.DORA_SCALE),
    "base_model.model.blocks.1.attn1.to_q.lora_magnitude_vector": Target(TO_Q, LoraPart.MAGNITUDE),
    "base_model.model.blocks.1.attn1.to_q.lora_magnitude_vector.default.weight": Target(TO_Q, LoraPart.MAGNITUDE),
    "lora_unet_patch_embedding.lora_mid.weight": Target("patch_embedding.weight", LoraPart.MID),
    "lycoris_blocks_0_norm2.w_norm": Target("blocks.0.norm2.weight", LoraPart.DIFF),
    "lycoris_blocks_0_norm2.b_norm": Target("blocks.0.norm2.bias", LoraPart.DIFF),
    "lora_unet_head_modulation.diff_m": Target("scale_shift_table", LoraPart.DIFF),
    "diffusion_model.img_emb.proj.1.lora_B.weight": Target(
        "condition_embedder.image_embedder.ff.net.0.proj.weight", LoraPart.UP
    ),
}


@pytest.mark.parametrize(("key", "target"), SPELLINGS.items(), ids=SPELLINGS.keys())
def test_spellings(i2v_config: dict[str, Any], key: str, target: Target) -> None:
    assert KeyTable(wan.topology(i2v_config).tensors, wan).targets(key) == (target,)


@pytest.mark.parametrize(
    "key",
    [
        "diffusion_model.blocks.9.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.1.self_attn.q.weight",
        "text_encoder.layers.0.q.lora_A.weight",
        "diffusion_model.blocks.1.self_attn.q.lokr_w3",
        "lora_down.weight",
        "diffusion_model.blocks.1.norm3.diff_m",
        "step",
    ],
)
def test_what_stands_for_nothing(i2v_config: dict[str, Any], key: str) -> None:
    assert KeyTable(wan.topology(i2v_config).tensors, wan).targets(key) == ()


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
        assert table.targets(key) == (Target(tensor, LoraPart.DIFF),)


STEM = "blocks.0.self_attn.q"


@pytest.mark.parametrize(
    ("key", "method"),
    [
        (f"{STEM}.lora_A.weight", None),
        (f"{STEM}.lora_magnitude_vector.default.weight", None),
        (f"{STEM}.lokr_w2_b", None),
        (f"base_model.model.{STEM}.lora_A.weight", None),
        (f"diffusion_model.{STEM}.weight", None),
        (f"lora_unet_{STEM}.oft_blocks", "OFT"),
        (f"base_model.model.{STEM}.oft_R.default.weight", "OFT"),
        (f"{STEM}.boft_R", "OFT"),
        (f"{STEM}.rescale", "OFT"),
        (f"{STEM}.a1.weight", "GLoRA"),
        (f"{STEM}.on_input", "IA3"),
        (f"base_model.model.{STEM}.ia3_l", "IA3"),
        (f"{STEM}.vera_lambda_b", "VeRA"),
        (f"{STEM}.lora_E.default", "AdaLoRA"),
        (f"{STEM}.bora_scale_r", "BoRA"),
        (f"{STEM}.lora_embedding_A", "a LoRA of embeddings"),
        (f"{STEM}.hra_u", "a method of PEFT"),
        (f"{STEM}.fourierft_spectrum", "a method of PEFT"),
        (f"base_model.model.{STEM}.lokr_w1", "PEFT's LoKr or LoHa"),
        (f"{STEM}.lokr_t1", "LoKr, LoHa or DoRA of an unknown kind"),
        (f"{STEM}.wd_for_diff", "LoKr, LoHa or DoRA of an unknown kind"),
        ("diffusion_model.patch_embedding.set_weight", "a weight set as a whole"),
    ],
)
def test_methods_that_are_not_merged_have_names(key: str, method: str | None) -> None:
    assert other_method(key) == method


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("text_encoder.layers.0.q.lora_A.weight", "text encoder"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "text encoder"),
        ("text_encoders.t5xxl.transformer.shared.lora_A.weight", "text encoder"),
        ("vae.decoder.conv_in.lora_A.weight", "VAE"),
        ("image_encoder.vision_model.q.lora_A.weight", "image encoder"),
        ("diffusion_model.text_embedding.0.lora_A.weight", None),
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", None),
    ],
)
def test_which_other_part_of_the_pipeline_a_key_changes(key: str, part: str | None) -> None:
    assert other_part(key) == part


@pytest.mark.parametrize(
    ("key", "second"),
    [
        (f"transformer_2.{STEM}.lora_A.weight", True),
        (f"pipe.dit2.{STEM}.lora_A.default.weight", True),
        (f"low_noise_model.{STEM}.lora_A.weight", True),
        (f"base_model.model.transformer_2.{STEM}.lora_A.weight", True),
        (f"transformer.{STEM}.lora_A.weight", False),
        (f"high_noise_model.{STEM}.lora_A.weight", False),
        ("transformer.blocks.2.attn1.to_q.lora_A.weight", False),
    ],
)
def test_which_keys_say_that_they_are_for_the_second_expert(key: str, second: bool) -> None:
    assert is_for_second_expert(key) == second


def test_a_key_of_two_tensors_stands_for_both() -> None:
    class Family:
        to_native = staticmethod(lambda name: name)

    tensors = ["blocks.0.to_q.weight", "blocks.0.to.q.weight"]
    table = KeyTable(tensors, Family())  # type: ignore[arg-type]
    found = {target.tensor for target in table.targets("lora_unet_blocks_0_to_q.lora_down.weight")}
    assert found == set(tensors)


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("diffusion_model.blocks.12.self_attn.q.alpha", 12),
        ("lora_unet_blocks_7_ffn_0.lora_up.weight", 7),
        ("lora_unet__blocks__7_ffn_0.lora_up.weight", 7),
        ("diffusion_model.vace_blocks.3.self_attn.q.diff", None),
        ("transformer.proj_out.lora_A.weight", None),
    ],
)
def test_which_block_a_key_is_about(key: str, block: int | None) -> None:
    assert block_in(key) == block
