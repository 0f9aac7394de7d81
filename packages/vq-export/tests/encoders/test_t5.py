"""umt5's names and sizes, held against what Wan's own T5 encoder has."""

import pytest

from vq_export.encoders.t5 import LIGHTX2V_SHAPES, QUANTIZED, in_transformers, own_name, shapes_of_tensors


def test_umt5_xxl_is_what_lightx2v_loads() -> None:
    linears = {f"attn.{part}": (4096, 4096) for part in "qkvo"}
    linears |= {"ffn.gate.0": (10240, 4096), "ffn.fc1": (10240, 4096), "ffn.fc2": (4096, 10240)}
    assert len(LIGHTX2V_SHAPES) == 2 + 24 * 10
    assert LIGHTX2V_SHAPES["token_embedding.weight"] == (256384, 4096)
    assert LIGHTX2V_SHAPES["norm.weight"] == (4096,)
    assert {name: shape for name, shape in LIGHTX2V_SHAPES.items() if name.startswith("blocks.23.")} == {
        **{f"blocks.23.{name}.weight": shape for name, shape in linears.items()},
        "blocks.23.norm1.weight": (4096,),
        "blocks.23.norm2.weight": (4096,),
        "blocks.23.pos_embedding.embedding.weight": (32, 64),
    }
    quantized = {f"blocks.{block}.{name}.weight" for block in range(24) for name in linears}
    assert {name for name in LIGHTX2V_SHAPES if QUANTIZED.fullmatch(name)} == quantized
    assert shapes_of_tensors(LIGHTX2V_SHAPES) == LIGHTX2V_SHAPES


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
    assert in_transformers(native) == (theirs,)


def test_the_token_embedding_goes_by_two_names() -> None:
    assert own_name("encoder.embed_tokens.weight") == own_name("shared.weight") == "shared.weight"
