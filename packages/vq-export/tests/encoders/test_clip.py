"""The image encoder's names and sizes, held against what Wan's own CLIP has."""

from vq_export.encoders.clip import LIGHTX2V_SHAPES, QUANTIZED, own_name, shapes_of_tensors

LAYER = "visual.transformer.31"


def test_vit_h_14_is_what_lightx2v_loads() -> None:
    assert len(LIGHTX2V_SHAPES) == 9 + 32 * 12
    outside = {name: shape for name, shape in LIGHTX2V_SHAPES.items() if not name.startswith("visual.transformer.")}
    assert outside == {
        "log_scale": (),
        "visual.cls_embedding": (1, 1, 1280),
        "visual.pos_embedding": (1, 257, 1280),
        "visual.head": (1280, 1024),
        "visual.patch_embedding.weight": (1280, 3, 14, 14),
        **{f"visual.{norm}.{part}": (1280,) for norm in ("pre_norm", "post_norm") for part in ("weight", "bias")},
    }
    weights = {"attn.to_qkv": (3840, 1280), "attn.proj": (1280, 1280), "mlp.0": (5120, 1280), "mlp.2": (1280, 5120)}
    layer = {f"{LAYER}.{norm}.{part}": (1280,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    for name, shape in weights.items():
        layer |= {f"{LAYER}.{name}.weight": shape, f"{LAYER}.{name}.bias": shape[:1]}
    assert {name: shape for name, shape in LIGHTX2V_SHAPES.items() if name.startswith(f"{LAYER}.")} == layer
    quantized = {f"visual.transformer.{number}.{name}.weight" for number in range(32) for name in weights}
    assert {name for name in LIGHTX2V_SHAPES if QUANTIZED.fullmatch(name)} == quantized
    assert shapes_of_tensors(LIGHTX2V_SHAPES) == LIGHTX2V_SHAPES


def test_spellings_of_older_transformers() -> None:
    assert own_name("vision_model.pre_layrnorm.bias") == "pre_layrnorm.bias"
    assert own_name("post_layernorm.bias") == "post_layernorm.bias"
    assert own_name("vision_model.embeddings.position_ids") is None
