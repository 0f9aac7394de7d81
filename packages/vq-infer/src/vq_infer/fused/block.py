"""A transformer block of Wan with one kernel between two matrix products."""

from typing import Any

import torch
from torch import Tensor, nn

from vq_infer.attention import Attention
from vq_infer.fused.norm_rope import Rope
from vq_infer.fused.ops import Ops
from vq_infer.fused.tokens import Tokens
from vq_infer.kernels.full_linear import FullLinear
from vq_infer.kernels.quant_linear import QuantLinear

BlockLinear = QuantLinear | FullLinear
TEXT_TOKENS = 512  # after the image's tokens in image-to-video models, as in diffusers


class FusedBlock(nn.Module):
    """Computes the same as diffusers' `WanTransformerBlock`, with linears that are quantized, or some that are not.

    Attributes:
        qkv: the q, k and v linears of self-attention as one.
        cross_kv: the k and v linears of cross-attention over the text.
        image_kv: the same over the image, if the model reads one.
        attention: of the video's tokens to each other, which may be in 8 bits.
        cross_attention: to the text and the image, in full precision.
    """

    image_kv: BlockLinear | None
    image_k_norm: Tensor | None

    def __init__(self, block: Any, ops: Ops, attention: Attention, cross_attention: Attention) -> None:
        """Take over the parts of `block`, diffusers' own block with a `QuantLinear` for linears that are quantized."""
        super().__init__()
        attn1, attn2, ffn = block.attn1, block.attn2, block.ffn
        self.heads: int = attn1.heads
        self.eps: float = block.norm1.eps
        self.qkv = _joined(attn1.to_q, attn1.to_k, attn1.to_v)
        self.out = _joined(attn1.to_out[0])
        self.cross_q = _joined(attn2.to_q)
        self.cross_kv = _joined(attn2.to_k, attn2.to_v)
        self.cross_out = _joined(attn2.to_out[0])
        self.up = _joined(ffn.net[0].proj)
        self.down = _joined(ffn.net[2])
        self.scale_shift_table: Tensor = block.scale_shift_table
        self.norm2: nn.LayerNorm = block.norm2
        self.qk_norm = _stacked(attn1.norm_q, attn1.norm_k)
        self.cross_q_norm, self.cross_k_norm = _stacked(attn2.norm_q), _stacked(attn2.norm_k)
        self.image_kv = self.image_k_norm = None
        if attn2.add_k_proj is not None:
            self.image_kv = _joined(attn2.add_k_proj, attn2.add_v_proj)
            self.image_k_norm = _stacked(attn2.norm_added_k)
        self.ops, self.attention, self.cross_attention = ops, attention, cross_attention

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, rotary_emb: Rope) -> Tensor:
        """One block.

        Args:
            hidden_states: `[batch, tokens, dim]`.
            encoder_hidden_states: `[batch, image tokens + text tokens, dim]`.
            temb: of the timestep, `[batch, 6, dim]`, or of a timestep for every token, `[batch, tokens, 6, dim]`.
            rotary_emb: cosine and sine, `[1, tokens, 1, head_dim]`.
        """
        ops, dtype, qkv, out, up, down = self.ops, hidden_states.dtype, self.qkv, self.out, self.up, self.down
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulation(temb)
        x, tokens = ops.norm_quantize(
            hidden_states, 1 + scale, shift, self.eps, qkv.activation, qkv.gain, rotation=qkv.rotation
        )
        # Bound to no name, or what attention gave would stay in memory while it is multiplied.
        tokens = ops.sum_quantize(self._self_attention(tokens, rotary_emb, dtype), None, out.activation, out.rotation)
        y = out.of_tokens(tokens, dtype)
        norm2, fmt, rotation = self.norm2, self.cross_q.activation, self.cross_q.rotation
        x, tokens = ops.norm_quantize(x, norm2.weight, norm2.bias, self.eps, fmt, None, y, gate, rotation)
        y = self.cross_out.of_tokens(self._cross_attention(tokens, encoder_hidden_states), dtype)
        x, tokens = ops.norm_quantize(
            x, 1 + ffn_scale, ffn_shift, self.eps, up.activation, up.gain, y, rotation=up.rotation
        )
        tokens = ops.gelu_quantize(up.of_tokens(tokens, dtype), down.activation, down.rotation, down.mean)
        y = down.of_tokens(tokens, dtype)
        return ops.gated_sum(x, y, ffn_gate)

    def _modulation(self, temb: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of self-attention and of the feed-forward, fp32 `[batch, tokens or 1, dim]`."""
        if temb.ndim == 3:
            temb = temb.unsqueeze(1)
        # With a timestep for every token, a copy of `temb` in fp32 would be the block's largest tensor.
        return (self.scale_shift_table.unsqueeze(0).float() + temb).unbind(2)

    def _self_attention(self, tokens: Tokens, rope: Rope, dtype: torch.dtype) -> Tensor:
        qkv = self.qkv.of_tokens(tokens, dtype)
        dim = qkv.shape[-1] // 3
        q, k = self.ops.norm_rope(qkv[..., : 2 * dim], self.qk_norm, self.eps, Rope(*rope), self.heads)
        return self.attention.attend(q, k, qkv[..., 2 * dim :].unflatten(-1, (self.heads, -1))).flatten(2)

    def _cross_attention(self, tokens: Tokens, condition: Tensor) -> Tokens:
        (q,) = self.ops.norm_rope(
            self.cross_q.of_tokens(tokens, condition.dtype), self.cross_q_norm, self.eps, None, self.heads
        )
        of_image = None
        if self.image_kv is not None and self.image_k_norm is not None:
            image, condition = condition[:, :-TEXT_TOKENS], condition[:, -TEXT_TOKENS:]
            of_image = self._attend_to(image, q, self.image_kv, self.image_k_norm)
        return self.ops.sum_quantize(
            self._attend_to(condition, q, self.cross_kv, self.cross_k_norm),
            of_image,
            self.cross_out.activation,
            self.cross_out.rotation,
        )

    def _attend_to(self, condition: Tensor, q: Tensor, kv: BlockLinear, norm: Tensor) -> Tensor:
        tokens = self.ops.sum_quantize(condition, None, kv.activation, kv.rotation)
        k, v = kv.of_tokens(tokens, condition.dtype).chunk(2, dim=-1)
        (k,) = self.ops.norm_rope(k, norm, self.eps, None, self.heads)
        return self.cross_attention.attend(q, k, v.unflatten(-1, (self.heads, -1))).flatten(2)


def _joined(*linears: nn.Module) -> BlockLinear:
    """The linears that read one input as one."""
    quantized = [linear for linear in linears if isinstance(linear, QuantLinear)]
    kept = [linear for linear in linears if isinstance(linear, nn.Linear)]
    if quantized and kept:
        raise ValueError("linears that are quantized and such that are not cannot be one")
    if kept:
        return FullLinear.stacked(*kept)
    return QuantLinear.stacked(*quantized) if len(quantized) > 1 else quantized[0]


def _stacked(*norms: nn.RMSNorm) -> nn.Parameter:
    """Weights of norms over all heads, `[norms, dim]`."""
    return nn.Parameter(torch.stack([norm.weight.detach() for norm in norms]), requires_grad=False)
