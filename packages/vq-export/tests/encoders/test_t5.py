"""umt5's names and sizes, held against what Wan's own T5 encoder has."""

import pytest

from vq_core.errors import VqError
from vq_export.encoders import t5


def test_umt5_xxl_is_what_lightx2v_loads() -> None:
    shapes = t5.lightx2v_shapes()
    assert len(shapes) == 2 + 24 * 10
    assert shapes["token_embedding.weight"] == (256384, 4096)
    assert shapes["norm.weight"] == (4096,)
    assert {name: shape for name, shape in shapes.items() if name.startswith("blocks.23.")} == {
        "blocks.23.norm1.weight": (4096,),
        "blocks.23.attn.q.weight": (4096, 4096),
        "blocks.23.attn.k.weight": (4096, 4096),
        "blocks.23.attn.v.weight": (4096, 4096),
        "blocks.23.attn.o.weight": (4096, 4096),
        "blocks.23.norm2.weight": (4096,),
        "blocks.23.ffn.gate.0.weight": (10240, 4096),
        "blocks.23.ffn.fc1.weight": (10240, 4096),
        "blocks.23.ffn.fc2.weight": (4096, 10240),
        "blocks.23.pos_embedding.embedding.weight": (32, 64),
    }


def test_a_file_s_sizes_are_read_from_its_tensors() -> None:
    assert t5.shapes_of_tensors(t5.lightx2v_shapes()) == t5.lightx2v_shapes()


def test_the_seven_linears_of_a_block_are_quantized() -> None:
    quantized = {name for name in t5.lightx2v_shapes() if t5.is_quantized(name)}
    parts = ("attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate.0", "ffn.fc1", "ffn.fc2")
    assert quantized == {f"blocks.{block}.{part}.weight" for block in range(24) for part in parts}


@pytest.mark.parametrize(
    ("native", "theirs"),
    [
        ("token_embedding.weight", "shared.weight"),
        ("norm.weight", "encoder.final_layer_norm.weight"),
        ("blocks.7.norm1.weight", "encoder.block.7.layer.0.layer_norm.weight"),
        ("blocks.7.attn.o.weight", "encoder.block.7.layer.0.SelfAttention.o.weight"),
        (
            "blocks.12.pos_embedding.embedding.weight",
            "encoder.block.12.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
        ("blocks.7.norm2.weight", "encoder.block.7.layer.1.layer_norm.weight"),
        ("blocks.7.ffn.gate.0.weight", "encoder.block.7.layer.1.DenseReluDense.wi_0.weight"),
        ("blocks.7.ffn.fc1.weight", "encoder.block.7.layer.1.DenseReluDense.wi_1.weight"),
        ("blocks.7.ffn.fc2.weight", "encoder.block.7.layer.1.DenseReluDense.wo.weight"),
    ],
)
def test_names_in_transformers(native: str, theirs: str) -> None:
    assert t5.in_transformers(native) == (theirs,)


def test_the_token_embedding_goes_by_two_names() -> None:
    assert t5.own_name("encoder.embed_tokens.weight") == t5.own_name("shared.weight") == "shared.weight"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feed_forward_proj", "gated-silu"),
        ("layer_norm_epsilon", 1e-5),
        ("relative_attention_max_distance", 256),
    ],
)
def test_another_function_is_refused(key: str, value: object) -> None:
    config = {
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "relative_attention_max_distance": 128,
        key: value,
    }
    with pytest.raises(VqError, match=rf"config\.json says {key} {value!r}, and LightX2V's T5 runs"):
        t5.shapes_of_config(config, "config.json")
