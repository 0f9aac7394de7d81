"""Every tensor of Wan's own model, by hand: diffusers' name, native name and shape."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

DIM, FFN, TEXT, FREQ, IMAGE = 64, 160, 32, 16, 48
CHANNELS = {"t2v": (16, 16), "i2v": (36, 16), "i2v-2.2": (36, 16), "ti2v-5b": (48, 48)}

Shape = tuple[int, ...]
Names = dict[str, tuple[str, Shape]]
"""By diffusers' name the native one and the shape."""

LINEARS: Names = {
    "condition_embedder.text_embedder.linear_1": ("text_embedding.0", (DIM, TEXT)),
    "condition_embedder.text_embedder.linear_2": ("text_embedding.2", (DIM, DIM)),
    "condition_embedder.time_embedder.linear_1": ("time_embedding.0", (DIM, FREQ)),
    "condition_embedder.time_embedder.linear_2": ("time_embedding.2", (DIM, DIM)),
    "condition_embedder.time_proj": ("time_projection.1", (6 * DIM, DIM)),
}
IMAGE_LINEARS: Names = {
    "condition_embedder.image_embedder.ff.net.0.proj": ("img_emb.proj.1", (IMAGE, IMAGE)),
    "condition_embedder.image_embedder.ff.net.2": ("img_emb.proj.3", (DIM, IMAGE)),
}
IMAGE_NORMS: Names = {
    "condition_embedder.image_embedder.norm1": ("img_emb.proj.0", (IMAGE,)),
    "condition_embedder.image_embedder.norm2": ("img_emb.proj.4", (DIM,)),
}
IN_BLOCK: Names = {
    "scale_shift_table": ("modulation", (1, 6, DIM)),
    "attn1.norm_q.weight": ("self_attn.norm_q.weight", (DIM,)),
    "attn1.norm_k.weight": ("self_attn.norm_k.weight", (DIM,)),
    "attn2.norm_q.weight": ("cross_attn.norm_q.weight", (DIM,)),
    "attn2.norm_k.weight": ("cross_attn.norm_k.weight", (DIM,)),
    "norm2.weight": ("norm3.weight", (DIM,)),
    "norm2.bias": ("norm3.bias", (DIM,)),
}
IMAGE_IN_BLOCK: Names = {"attn2.norm_added_k.weight": ("cross_attn.norm_k_img.weight", (DIM,))}
QUANTIZED: Names = {
    "attn1.to_q": ("self_attn.q", (DIM, DIM)),
    "attn1.to_k": ("self_attn.k", (DIM, DIM)),
    "attn1.to_v": ("self_attn.v", (DIM, DIM)),
    "attn1.to_out.0": ("self_attn.o", (DIM, DIM)),
    "attn2.to_q": ("cross_attn.q", (DIM, DIM)),
    "attn2.to_k": ("cross_attn.k", (DIM, DIM)),
    "attn2.to_v": ("cross_attn.v", (DIM, DIM)),
    "attn2.to_out.0": ("cross_attn.o", (DIM, DIM)),
    "ffn.net.0.proj": ("ffn.0", (FFN, DIM)),
    "ffn.net.2": ("ffn.2", (DIM, FFN)),
}
IMAGE_QUANTIZED: Names = {
    "attn2.add_k_proj": ("cross_attn.k_img", (DIM, DIM)),
    "attn2.add_v_proj": ("cross_attn.v_img", (DIM, DIM)),
}


@dataclass(frozen=True)
class NativeNames:
    """The tensors of one transformer that are not quantized, and the weights of those linears that are, by stem."""

    plain: Names = field(default_factory=dict)
    quantized: Names = field(default_factory=dict)


@pytest.fixture(scope="session")
def native_names() -> Callable[[str], NativeNames]:
    """`native_names(kind)`: those of a kind of model with two blocks."""

    def of_kind(kind: str) -> NativeNames:
        made, image = NativeNames(), kind == "i2v"
        in_channels, out_channels = CHANNELS[kind]
        made.plain["patch_embedding.weight"] = ("patch_embedding.weight", (DIM, in_channels, 1, 2, 2))
        made.plain["patch_embedding.bias"] = ("patch_embedding.bias", (DIM,))
        made.plain["scale_shift_table"] = ("head.modulation", (1, 2, DIM))
        with_bias = LINEARS | {"proj_out": ("head.head", (4 * out_channels, DIM))}
        for name, (native, shape) in (with_bias | (IMAGE_LINEARS | IMAGE_NORMS if image else {})).items():
            made.plain[f"{name}.weight"] = (f"{native}.weight", shape)
            made.plain[f"{name}.bias"] = (f"{native}.bias", shape[:1])
        for block in ("blocks.0.", "blocks.1."):
            for name, (native, shape) in (IN_BLOCK | (IMAGE_IN_BLOCK if image else {})).items():
                made.plain[block + name] = (block + native, shape)
            for name, (native, shape) in (QUANTIZED | (IMAGE_QUANTIZED if image else {})).items():
                made.quantized[block + name] = (block + native, shape)
                made.plain[f"{block}{name}.bias"] = (f"{block}{native}.bias", shape[:1])
        return made

    return of_kind
