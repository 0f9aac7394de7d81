import re
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.families.wan import to_diffusers, to_native, topology

# Every tensor of the two spellings, as the runtime's loader reads them; `w` and `b` stand for weight and bias.
TABLE = """
patch_embedding.{w,b}                                   patch_embedding.{w,b}
condition_embedder.text_embedder.linear_1.{w,b}         text_embedding.0.{w,b}
condition_embedder.text_embedder.linear_2.{w,b}         text_embedding.2.{w,b}
condition_embedder.time_embedder.linear_1.{w,b}         time_embedding.0.{w,b}
condition_embedder.time_embedder.linear_2.{w,b}         time_embedding.2.{w,b}
condition_embedder.time_proj.{w,b}                      time_projection.1.{w,b}
condition_embedder.image_embedder.norm1.{w,b}           img_emb.proj.0.{w,b}
condition_embedder.image_embedder.ff.net.0.proj.{w,b}   img_emb.proj.1.{w,b}
condition_embedder.image_embedder.ff.net.2.{w,b}        img_emb.proj.3.{w,b}
condition_embedder.image_embedder.norm2.{w,b}           img_emb.proj.4.{w,b}
condition_embedder.image_embedder.pos_embed             img_emb.emb_pos
blocks.N.scale_shift_table                              blocks.N.modulation
blocks.N.attn1.to_q.{w,b}                               blocks.N.self_attn.q.{w,b}
blocks.N.attn1.to_k.{w,b}                               blocks.N.self_attn.k.{w,b}
blocks.N.attn1.to_v.{w,b}                               blocks.N.self_attn.v.{w,b}
blocks.N.attn1.to_out.0.{w,b}                           blocks.N.self_attn.o.{w,b}
blocks.N.attn1.norm_q.{w}                               blocks.N.self_attn.norm_q.{w}
blocks.N.attn1.norm_k.{w}                               blocks.N.self_attn.norm_k.{w}
blocks.N.norm2.{w,b}                                    blocks.N.norm3.{w,b}
blocks.N.attn2.to_q.{w,b}                               blocks.N.cross_attn.q.{w,b}
blocks.N.attn2.to_k.{w,b}                               blocks.N.cross_attn.k.{w,b}
blocks.N.attn2.to_v.{w,b}                               blocks.N.cross_attn.v.{w,b}
blocks.N.attn2.to_out.0.{w,b}                           blocks.N.cross_attn.o.{w,b}
blocks.N.attn2.norm_q.{w}                               blocks.N.cross_attn.norm_q.{w}
blocks.N.attn2.norm_k.{w}                               blocks.N.cross_attn.norm_k.{w}
blocks.N.attn2.add_k_proj.{w,b}                         blocks.N.cross_attn.k_img.{w,b}
blocks.N.attn2.add_v_proj.{w,b}                         blocks.N.cross_attn.v_img.{w,b}
blocks.N.attn2.norm_added_k.{w}                         blocks.N.cross_attn.norm_k_img.{w}
blocks.N.ffn.net.0.proj.{w,b}                           blocks.N.ffn.0.{w,b}
blocks.N.ffn.net.2.{w,b}                                blocks.N.ffn.2.{w,b}
proj_out.{w,b}                                          head.head.{w,b}
scale_shift_table                                       head.modulation
vace_patch_embedding.{w,b}                              vace_patch_embedding.{w,b}
vace_blocks.N.proj_in.{w,b}                             vace_blocks.N.before_proj.{w,b}
vace_blocks.N.proj_out.{w,b}                            vace_blocks.N.after_proj.{w,b}
vace_blocks.N.scale_shift_table                         vace_blocks.N.modulation
vace_blocks.N.attn1.to_out.0.{w,b}                      vace_blocks.N.self_attn.o.{w,b}
vace_blocks.N.norm2.{w,b}                               vace_blocks.N.norm3.{w,b}
vace_blocks.N.attn2.to_k.{w,b}                          vace_blocks.N.cross_attn.k.{w,b}
vace_blocks.N.ffn.net.0.proj.{w,b}                      vace_blocks.N.ffn.0.{w,b}
"""
SUFFIXES = {"w": "weight", "b": "bias"}


def spellings() -> dict[str, str]:
    """The table written out: diffusers → native, for block 7."""
    pairs: dict[str, str] = {}
    for line in TABLE.replace(".N.", ".7.").strip().splitlines():
        diffusers, native = line.split()
        parts = re.search(r"\{(.*)\}", diffusers)
        for part in parts[1].split(",") if parts else [""]:
            suffix = SUFFIXES.get(part, "")
            pairs[re.sub(r"\{.*\}", suffix, diffusers)] = re.sub(r"\{.*\}", suffix, native)
    return pairs


@pytest.mark.parametrize(("diffusers", "native"), spellings().items())
def test_table(diffusers: str, native: str) -> None:
    assert to_native(diffusers) == native
    assert to_diffusers(native) == diffusers


def test_the_table_has_every_tensor_of_the_fullest_layout(i2v_config: dict[str, Any]) -> None:
    fullest = topology(i2v_config | {"pos_embed_seq_len": 10}).tensors
    listed = {name for name in spellings() if not name.startswith("vace_")}
    assert listed == {name.replace("blocks.1.", "blocks.7.") for name in fullest if "blocks.0." not in name}


def test_round_trip_of_every_layout(wan_config: dict[str, Any]) -> None:
    names = list(topology(wan_config).tensors)
    natives = [to_native(name) for name in names]
    assert len(set(natives)) == len(names)
    assert [to_diffusers(native) for native in natives] == names


def test_quantization_suffixes_follow_the_stem() -> None:
    assert to_native("blocks.12.attn1.to_q.weight_scale") == "blocks.12.self_attn.q.weight_scale"


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.proj_in.weight",
        "vace_blocks.0.proj_mid.weight",
        "blocks.0.attn3.to_q.weight",
        "blocks.0.scale_shift_tables",
        "text_embedding.0.weight",
        "",
    ],
)
def test_refuses_what_is_no_tensor_of_wan(name: str) -> None:
    with pytest.raises(VqError, match=re.escape(f"`{name}` is not a tensor of a Wan transformer")):
        to_native(name)


def test_refuses_a_diffusers_name_as_native() -> None:
    with pytest.raises(VqError, match="is not a tensor of a Wan transformer"):
        to_diffusers("blocks.0.attn1.to_q.weight")
