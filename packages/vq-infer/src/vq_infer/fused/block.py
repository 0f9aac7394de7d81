"""A transformer block of Wan that goes from matrix product to matrix product with one kernel between them."""

from typing import Protocol

import torch
from torch import Tensor, nn

from vq_core.numerics.quantize import Quantized
from vq_infer.fused.norm_rope import Rope
from vq_infer.fused.ops import Ops
from vq_infer.quant_linear import QuantLinear

TEXT_TOKENS = 512  # what image-to-video models read after the image's tokens, as diffusers has it

Modulation = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Attend(Protocol):
    """Attention without a mask: q, k and v `[batch, tokens, heads, head_dim]` → the same shape as q."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q·kᵀ/√head_dim)·v."""


class FusedBlock(nn.Module):
    """Computes what diffusers' `WanTransformerBlock` does, with quantized linears, and takes its place.

    Attributes:
        qkv: the three linears of self-attention as one.
        cross_kv: those of cross-attention over the text, and `image_kv` over the image, where the model has one.
        attend: self-attention, which may be in 8 bits.
        cross_attend: cross-attention, always in full precision.
    """

    def __init__(self, block: nn.Module, ops: Ops, attend: Attend, cross_attend: Attend) -> None:
        """Take over the modules of `block`, diffusers' own with a `QuantLinear` for every linear."""
        super().__init__()
        attn1, attn2, ffn = (block.get_submodule(name) for name in ("attn1", "attn2", "ffn"))
        self.heads: int = attn1.heads  # type: ignore[assignment]
        self.qkv = QuantLinear.stacked(*(_linear(attn1, name) for name in ("to_q", "to_k", "to_v")))
        self.out = _linear(attn1, "to_out.0")
        self.cross_q = _linear(attn2, "to_q")
        self.cross_kv = QuantLinear.stacked(_linear(attn2, "to_k"), _linear(attn2, "to_v"))
        self.image_kv: QuantLinear | None = None
        if attn2.add_k_proj is not None:
            self.image_kv = QuantLinear.stacked(_linear(attn2, "add_k_proj"), _linear(attn2, "add_v_proj"))
        self.cross_out = _linear(attn2, "to_out.0")
        self.up = _linear(ffn, "net.0.proj")
        self.down = _linear(ffn, "net.2")
        self.scale_shift_table = block.get_parameter("scale_shift_table")
        self.norm2 = block.get_submodule("norm2")
        self.eps: float = block.get_submodule("norm1").eps  # type: ignore[assignment]
        self.qk_norm = _weights(attn1, "norm_q", "norm_k")
        self.cross_q_norm, self.cross_k_norm = _weights(attn2, "norm_q"), _weights(attn2, "norm_k")
        self.image_k_norm = None if self.image_kv is None else _weights(attn2, "norm_added_k")
        self.ops, self.attend, self.cross_attend = ops, attend, cross_attend

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, rotary_emb: Rope) -> Tensor:
        """One block.

        Args:
            hidden_states: `[batch, tokens, dim]`.
            encoder_hidden_states: `[batch, image tokens + text tokens, dim]`.
            temb: of the timestep, `[batch, 6, dim]`, or for every token its own, `[batch, tokens, 6, dim]`.
            rotary_emb: cosine and sine, `[1, tokens, 1, head_dim]`.
        """
        ops, fmt, dtype = self.ops, self.qkv.activation, hidden_states.dtype
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulation(temb)
        x, tokens = ops.norm_quantize(hidden_states, 1 + scale, shift, self.eps, fmt, self.qkv.gain)
        y = self.out.of_tokens(ops.sum_quantize(self._self_attention(tokens, rotary_emb, dtype), None, fmt), dtype)
        weight, bias = self.norm2.weight.view(1, 1, -1), self.norm2.bias.view(1, 1, -1)  # type: ignore[operator, union-attr]
        x, tokens = ops.norm_quantize(x, weight, bias, self.eps, fmt, None, y, gate)
        y = self.cross_out.of_tokens(self._cross_attention(tokens, encoder_hidden_states), dtype)
        x, tokens = ops.norm_quantize(x, 1 + ffn_scale, ffn_shift, self.eps, fmt, self.up.gain, y)
        y = self.down.of_tokens(ops.gelu_quantize(self.up.of_tokens(tokens, dtype), fmt), dtype)
        return ops.gated_sum(x, y, ffn_gate)

    def _modulation(self, temb: Tensor) -> Modulation:
        """Shift, scale and gate of self-attention and of the feed-forward, fp32 `[batch, tokens or 1, dim]`."""
        if temb.ndim == 3:
            temb = temb.unsqueeze(1)
        parts: Modulation = (self.scale_shift_table.unsqueeze(0).float() + temb.float()).unbind(2)  # type: ignore[assignment]
        return parts

    def _self_attention(self, tokens: Quantized, rope: Rope, dtype: torch.dtype) -> Tensor:
        qkv = self.qkv.of_tokens(tokens, dtype)
        dim = qkv.shape[-1] // 3
        q, k = self.ops.norm_rope(qkv[..., : 2 * dim], self.qk_norm, self.eps, Rope(*rope), self.heads)
        return self.attend(q, k, qkv[..., 2 * dim :].unflatten(-1, (self.heads, -1))).flatten(2)

    def _cross_attention(self, tokens: Quantized, condition: Tensor) -> Quantized:
        (q,) = self.ops.norm_rope(
            self.cross_q.of_tokens(tokens, condition.dtype), self.cross_q_norm, self.eps, None, self.heads
        )
        of_image = None
        if self.image_kv is not None and self.image_k_norm is not None:
            image, condition = condition[:, :-TEXT_TOKENS], condition[:, -TEXT_TOKENS:]
            of_image = self._attend_to(image, q, self.image_kv, self.image_k_norm)
        return self.ops.sum_quantize(
            self._attend_to(condition, q, self.cross_kv, self.cross_k_norm), of_image, self.cross_out.activation
        )

    def _attend_to(self, condition: Tensor, q: Tensor, kv: QuantLinear, norm: Tensor) -> Tensor:
        tokens = self.ops.sum_quantize(condition, None, kv.activation)
        k, v = kv.of_tokens(tokens, condition.dtype).chunk(2, dim=-1)
        (k,) = self.ops.norm_rope(k, norm, self.eps, None, self.heads)
        return self.cross_attend(q, k, v.unflatten(-1, (self.heads, -1))).flatten(2)


def _linear(module: nn.Module, name: str) -> QuantLinear:
    linear = module.get_submodule(name)
    if not isinstance(linear, QuantLinear):
        raise TypeError(f"`{name}` is no QuantLinear")
    return linear


def _weights(attention: nn.Module, *norms: str) -> nn.Parameter:
    """Weights of RMSNorms over all heads, `[norms, dim]`."""
    stacked = torch.stack([attention.get_parameter(f"{name}.weight").detach() for name in norms])
    return nn.Parameter(stacked, requires_grad=False)
