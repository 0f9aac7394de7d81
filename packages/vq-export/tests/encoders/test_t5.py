"""umt5's names and sizes, held against what Wan's own T5 encoder has."""

from vq_export.encoders.t5 import LIGHTX2V_SHAPES, QUANTIZED, own_name, shapes_of_tensors


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


def test_the_token_embedding_goes_by_two_names() -> None:
    assert own_name("encoder.embed_tokens.weight") == own_name("shared.weight") == "shared.weight"
