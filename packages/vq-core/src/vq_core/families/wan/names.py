"""Tensor names of Wan transformers in diffusers' spelling and in the native one (Wan-AI's files, LightX2V)."""

import re

from vq_core.errors import VqError

# Published image-to-video checkpoints carry a query norm for the image tokens that no implementation reads.
IGNORED_TENSORS = ("attn2.norm_added_q.weight",)

# Prefixes, diffusers → native. Both sides are unambiguous, so the table is read in either direction. In a block the
# two norms swap numbers: diffusers' affine norm2 (before cross-attention) is the native norm3.
_PREFIXES = {
    "patch_embedding.": "patch_embedding.",
    "vace_patch_embedding.": "vace_patch_embedding.",
    "condition_embedder.text_embedder.linear_1.": "text_embedding.0.",
    "condition_embedder.text_embedder.linear_2.": "text_embedding.2.",
    "condition_embedder.time_embedder.linear_1.": "time_embedding.0.",
    "condition_embedder.time_embedder.linear_2.": "time_embedding.2.",
    "condition_embedder.time_proj.": "time_projection.1.",
    "condition_embedder.image_embedder.norm1.": "img_emb.proj.0.",
    "condition_embedder.image_embedder.ff.net.0.proj.": "img_emb.proj.1.",
    "condition_embedder.image_embedder.ff.net.2.": "img_emb.proj.3.",
    "condition_embedder.image_embedder.norm2.": "img_emb.proj.4.",
    "proj_out.": "head.head.",
}
_WHOLE = {
    "condition_embedder.image_embedder.pos_embed": "img_emb.emb_pos",
    "scale_shift_table": "head.modulation",
}
_BLOCK_PREFIXES = {
    "attn1.to_q.": "self_attn.q.",
    "attn1.to_k.": "self_attn.k.",
    "attn1.to_v.": "self_attn.v.",
    "attn1.to_out.0.": "self_attn.o.",
    "attn1.norm_q.": "self_attn.norm_q.",
    "attn1.norm_k.": "self_attn.norm_k.",
    "attn2.to_q.": "cross_attn.q.",
    "attn2.to_k.": "cross_attn.k.",
    "attn2.to_v.": "cross_attn.v.",
    "attn2.to_out.0.": "cross_attn.o.",
    "attn2.norm_q.": "cross_attn.norm_q.",
    "attn2.norm_k.": "cross_attn.norm_k.",
    "attn2.add_k_proj.": "cross_attn.k_img.",
    "attn2.add_v_proj.": "cross_attn.v_img.",
    "attn2.norm_added_k.": "cross_attn.norm_k_img.",
    "norm2.": "norm3.",
    "ffn.net.0.proj.": "ffn.0.",
    "ffn.net.2.": "ffn.2.",
}
_BLOCK_WHOLE = {"scale_shift_table": "modulation"}
# A VACE block has these besides: into the first one, and out of each into the block of the main stack that it steers.
_VACE_BLOCK_PREFIXES = {"proj_in.": "before_proj.", "proj_out.": "after_proj."}


_TO_NATIVE = (_PREFIXES, _WHOLE, _BLOCK_PREFIXES, _BLOCK_WHOLE, _VACE_BLOCK_PREFIXES)
_TO_DIFFUSERS = tuple({after: before for before, after in table.items()} for table in _TO_NATIVE)


def to_native(name: str) -> str:
    """The native spelling of the diffusers tensor `name`."""
    return _translate(name, *_TO_NATIVE)


def to_diffusers(name: str) -> str:
    """The diffusers spelling of the native tensor `name`."""
    return _translate(name, *_TO_DIFFUSERS)


def _translate(
    name: str,
    prefixes: dict[str, str],
    whole: dict[str, str],
    block_prefixes: dict[str, str],
    block_whole: dict[str, str],
    vace_block_prefixes: dict[str, str],
) -> str:
    block = re.match(r"(vace_)?blocks\.\d+\.", name)
    if block:
        if block[1]:
            block_prefixes = block_prefixes | vace_block_prefixes
        return block[0] + _replace(name[block.end() :], block_prefixes, block_whole, name)
    return _replace(name, prefixes, whole, name)


def _replace(name: str, prefixes: dict[str, str], whole: dict[str, str], full_name: str) -> str:
    if name in whole:
        return whole[name]
    for before, after in prefixes.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    raise VqError(f"`{full_name}` is not a tensor of a Wan transformer: check that the model is Wan 2.1 or 2.2.")
