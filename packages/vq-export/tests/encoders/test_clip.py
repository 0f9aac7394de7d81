"""The image encoder's names and sizes, held against what Wan's own CLIP has."""

import pytest

from vq_core.errors import VqError
from vq_export.encoders import clip


def test_vit_h_14_is_what_lightx2v_loads() -> None:
    shapes = clip.lightx2v_shapes()
    assert len(shapes) == 9 + 32 * 12
    outside = {name: shape for name, shape in shapes.items() if not name.startswith("visual.transformer.")}
    assert outside == {
        "log_scale": (),
        "visual.cls_embedding": (1, 1, 1280),
        "visual.pos_embedding": (1, 257, 1280),
        "visual.head": (1280, 1024),
        "visual.patch_embedding.weight": (1280, 3, 14, 14),
        "visual.pre_norm.weight": (1280,),
        "visual.pre_norm.bias": (1280,),
        "visual.post_norm.weight": (1280,),
        "visual.post_norm.bias": (1280,),
    }
    prefix = "visual.transformer.31."
    assert {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)} == {
        "norm1.weight": (1280,),
        "norm1.bias": (1280,),
        "attn.to_qkv.weight": (3840, 1280),
        "attn.to_qkv.bias": (3840,),
        "attn.proj.weight": (1280, 1280),
        "attn.proj.bias": (1280,),
        "norm2.weight": (1280,),
        "norm2.bias": (1280,),
        "mlp.0.weight": (5120, 1280),
        "mlp.0.bias": (5120,),
        "mlp.2.weight": (1280, 5120),
        "mlp.2.bias": (1280,),
    }


def test_a_file_s_sizes_are_read_from_its_tensors() -> None:
    assert clip.shapes_of_tensors(clip.lightx2v_shapes()) == clip.lightx2v_shapes()


def test_the_four_linears_of_a_layer_are_quantized() -> None:
    quantized = {name for name in clip.lightx2v_shapes() if clip.is_quantized(name)}
    parts = ("attn.to_qkv", "attn.proj", "mlp.0", "mlp.2")
    assert quantized == {f"visual.transformer.{layer}.{part}.weight" for layer in range(32) for part in parts}


@pytest.mark.parametrize(
    ("native", "theirs"),
    [
        ("visual.cls_embedding", ["embeddings.class_embedding"]),
        ("visual.pos_embedding", ["embeddings.position_embedding.weight"]),
        ("visual.patch_embedding.weight", ["embeddings.patch_embedding.weight"]),
        ("visual.pre_norm.bias", ["pre_layrnorm.bias"]),
        ("visual.post_norm.weight", ["post_layernorm.weight"]),
        (
            "visual.transformer.9.attn.to_qkv.bias",
            [f"encoder.layers.9.self_attn.{part}_proj.bias" for part in ("q", "k", "v")],
        ),
        ("visual.transformer.9.attn.proj.weight", ["encoder.layers.9.self_attn.out_proj.weight"]),
        ("visual.transformer.9.norm1.weight", ["encoder.layers.9.layer_norm1.weight"]),
        ("visual.transformer.9.norm2.bias", ["encoder.layers.9.layer_norm2.bias"]),
        ("visual.transformer.9.mlp.0.weight", ["encoder.layers.9.mlp.fc1.weight"]),
        ("visual.transformer.9.mlp.2.weight", ["encoder.layers.9.mlp.fc2.weight"]),
        ("visual.head", []),
        ("log_scale", []),
    ],
)
def test_names_in_transformers(native: str, theirs: list[str]) -> None:
    assert list(clip.in_transformers(native)) == theirs


def test_spellings_of_older_transformers() -> None:
    assert clip.own_name("vision_model.pre_layrnorm.bias") == "pre_layrnorm.bias"
    assert clip.own_name("post_layernorm.bias") == "post_layernorm.bias"
    assert clip.own_name("vision_model.embeddings.position_ids") is None


def test_the_text_half_is_left_out() -> None:
    assert clip.is_left_out("textual.blocks.0.attn.q.weight")
    assert not clip.is_left_out("visual.head")
    assert not clip.is_left_out("log_scale")


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-6)])
def test_another_function_is_refused(key: str, value: object) -> None:
    config = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, key: value}
    with pytest.raises(VqError, match=rf"config\.json says {key} {value!r}, and LightX2V's CLIP runs"):
        clip.shapes_of_config(config, "config.json")
