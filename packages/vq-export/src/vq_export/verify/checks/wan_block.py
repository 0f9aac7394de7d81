"""A Wan block in plain torch, twice: as diffusers computes it, and as LightX2V reads and computes it.

Both compute in the dtype of their inputs. They differ where an exporter can go wrong: in names, in the place of the
affine norm, and in what a gain multiplies.

    diffusers   attn1        LN(x)·(1 + scale) + shift
                attn2        norm2(x), affine
                ffn          LN(x)·(1 + scale) + shift
    LightX2V    self_attn    LN(x)·(1 + scale)·affine_norm1.weight + shift·affine_norm1.bias
                cross_attn   norm3(x), affine
                ffn          LN(x)·(1 + scale)·affine_norm3.weight + shift·affine_norm3.bias

diffusers' `norm2` is the native `norm3`; the native norms 1 and 2 have no tensors. `affine_norm.bias` multiplies shift,
and is not an offset: where it is zero, LightX2V loses the shift.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[str, Tensor], Tensor]
"""`linear(stem, x)` applies the block's linear `stem`, so that only one weight at a time is in memory."""


@dataclass(frozen=True)
class BlockInputs:
    """What a block reads besides its weights.

    Attributes:
        hidden: `[tokens, dim]`, the video's tokens.
        text, image: `[tokens, dim]`, the embedded conditions; `image` is None where the block does not read one.
        modulation: `[6, dim]`, the projected timestep.
        cos, sin: `[tokens, head_dim / 2]`, the rotary embedding's angles.
    """

    hidden: Tensor
    text: Tensor
    image: Tensor | None
    modulation: Tensor
    cos: Tensor
    sin: Tensor


class Branches(NamedTuple):
    """What each branch adds to the hidden state, and its queries and keys: all `[tokens, dim]`.

    Queries and keys are normed, but not rotated. They are listed because attention on random inputs is nearly uniform,
    so that their errors hardly show in its output.
    """

    self_queries: Tensor
    self_keys: Tensor
    self_attention: Tensor
    cross_queries: Tensor
    cross_keys: Tensor
    cross_attention: Tensor
    feed_forward: Tensor


@dataclass(frozen=True)
class BlockShape:
    """Number of heads, and the epsilon that norms add to a variance."""

    heads: int
    eps: float


def diffusers_block(
    inputs: BlockInputs,
    tensors: Mapping[str, Tensor],
    linear: Linear,
    shape: BlockShape,
    gains: Mapping[str, Tensor] | None = None,
) -> Branches:
    """diffusers' `WanTransformerBlock`; names are diffusers', inside the block.

    `gains` are those of smoothed weights, by name (`norm1.gain`, `norm3.gain`): they multiply the modulated norms.
    """
    gains = gains or {}
    table = (tensors["scale_shift_table"].reshape(6, -1) + inputs.modulation).unbind()
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table
    attend = _Attention(shape, inputs, tensors)
    x = inputs.hidden

    normed = _layer_norm(x, shape) * (1 + scale) + shift
    query, key, value = (linear(f"attn1.to_{name}", normed * gains.get("norm1.gain", 1)) for name in "qkv")
    self_query, self_key = attend.normed(query, "attn1.norm_q.weight"), attend.normed(key, "attn1.norm_k.weight")
    attended = attend(attend.rotated(self_query), attend.rotated(self_key), value)
    own = linear("attn1.to_out.0", attended) * gate
    x = x + own

    affine = "norm2.weight" in tensors
    normed = _layer_norm(x, shape) * tensors["norm2.weight"] + tensors["norm2.bias"] if affine else x
    query = attend.normed(linear("attn2.to_q", normed), "attn2.norm_q.weight")
    key = attend.normed(linear("attn2.to_k", inputs.text), "attn2.norm_k.weight")
    attended = attend(query, key, linear("attn2.to_v", inputs.text))
    if inputs.image is not None:
        image_key = attend.normed(linear("attn2.add_k_proj", inputs.image), "attn2.norm_added_k.weight")
        attended = attended + attend(query, image_key, linear("attn2.add_v_proj", inputs.image))
    cross = linear("attn2.to_out.0", attended)
    x = x + cross

    normed = _layer_norm(x, shape) * (1 + ffn_scale) + ffn_shift
    hidden = linear("ffn.net.0.proj", normed * gains.get("norm3.gain", 1))
    fed = linear("ffn.net.2", F.gelu(hidden, approximate="tanh")) * ffn_gate
    return Branches(self_query, self_key, own, query, key, cross, fed)


def native_block(
    inputs: BlockInputs, tensors: Mapping[str, Tensor], linear: Linear, shape: BlockShape, *, smoothed: bool
) -> Branches:
    """LightX2V's block; names are native, inside the block. `smoothed` is its `quant_method: advanced_ptq`.

    Without it the block is ComfyUI's, too.
    """
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
        tensors["modulation"].reshape(6, -1) + inputs.modulation
    ).unbind()
    attend = _Attention(shape, inputs, tensors)
    x = inputs.hidden

    scale, ffn_scale = 1 + scale, 1 + ffn_scale
    if smoothed:
        scale, shift = scale * tensors["affine_norm1.weight"], shift * tensors["affine_norm1.bias"]
        ffn_scale = ffn_scale * tensors["affine_norm3.weight"]
        ffn_shift = ffn_shift * tensors["affine_norm3.bias"]

    normed = _layer_norm(x, shape) * scale + shift
    self_query = attend.normed(linear("self_attn.q", normed), "self_attn.norm_q.weight")
    self_key = attend.normed(linear("self_attn.k", normed), "self_attn.norm_k.weight")
    attended = attend(attend.rotated(self_query), attend.rotated(self_key), linear("self_attn.v", normed))
    own = linear("self_attn.o", attended) * gate
    x = x + own

    normed = _layer_norm(x, shape) * tensors["norm3.weight"] + tensors["norm3.bias"]
    query = attend.normed(linear("cross_attn.q", normed), "cross_attn.norm_q.weight")
    key = attend.normed(linear("cross_attn.k", inputs.text), "cross_attn.norm_k.weight")
    attended = attend(query, key, linear("cross_attn.v", inputs.text))
    if inputs.image is not None:
        image_key = attend.normed(linear("cross_attn.k_img", inputs.image), "cross_attn.norm_k_img.weight")
        attended = attended + attend(query, image_key, linear("cross_attn.v_img", inputs.image))
    cross = linear("cross_attn.o", attended)
    x = x + cross

    hidden = linear("ffn.0", _layer_norm(x, shape) * ffn_scale + ffn_shift)
    fed = linear("ffn.2", F.gelu(hidden, approximate="tanh")) * ffn_gate
    return Branches(self_query, self_key, own, query, key, cross, fed)


def _layer_norm(x: Tensor, shape: BlockShape) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=shape.eps)


@dataclass(frozen=True)
class _Attention:
    """Attention of `[tokens, dim]`, and the norms of queries and keys: over all heads at once, then rotated."""

    shape: BlockShape
    inputs: BlockInputs
    tensors: Mapping[str, Tensor]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = (x.unflatten(-1, (self.shape.heads, -1)).transpose(0, 1) for x in (query, key, value))
        return F.scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)

    def normed(self, x: Tensor, weight: str) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.shape.eps) * self.tensors[weight]

    def rotated(self, x: Tensor) -> Tensor:
        pairs = x.unflatten(-1, (self.shape.heads, -1, 2))
        real, imaginary = pairs.unbind(-1)
        cos, sin = self.inputs.cos[:, None], self.inputs.sin[:, None]
        return torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), -1).flatten(1)
