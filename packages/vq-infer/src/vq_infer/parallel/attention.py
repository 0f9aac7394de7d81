"""Self-attention over tokens that are split among several processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vq_core.errors import VqError
from vq_infer.attention import FULL_PRECISION, Attention


class Ulysses:
    """Any attention, over a share of the heads and all tokens (DeepSpeed-Ulysses, arXiv 2309.14509).

    Every process holds all heads of its tokens. It exchanges them for some heads of all tokens, `attention` runs on
    those as on one device, and a second exchange returns the output.
    """

    def __init__(self, attention: Attention, group: dist.ProcessGroup, tokens: int) -> None:
        """Split `tokens` tokens among the processes of `group` as `torch.tensor_split` does."""
        self.NAME = f"{attention.NAME}, Ulysses"
        self.ERROR = attention.ERROR
        self._attention = attention
        self._group = group
        world = dist.get_world_size(group)
        self._sizes = [tokens // world + (rank < tokens % world) for rank in range(world)]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k and v: `[batch, own tokens, heads, head_dim]` → the same shape as q."""
        q, k, v = self._all_tokens(torch.stack((q, k, v), dim=2)).unbind(2)
        return self._own_tokens(self._attention.attend(q, k, v))

    def _all_tokens(self, x: Tensor) -> Tensor:
        """`[batch, own tokens, 3, heads, head_dim]` → `[batch, tokens, 3, own heads, head_dim]`."""
        world, own = len(self._sizes), x.shape[1]
        sent = x.unflatten(3, (world, -1)).permute(3, 1, 0, 2, 4, 5).contiguous()
        received = sent.new_empty(sum(self._sizes), *sent.shape[2:])
        dist.all_to_all_single(received, sent.flatten(0, 1), self._sizes, [own] * world, group=self._group)
        return received.transpose(0, 1)

    def _own_tokens(self, x: Tensor) -> Tensor:
        """`[batch, tokens, own heads, head_dim]` → `[batch, own tokens, heads, head_dim]`."""
        world, own = len(self._sizes), self._sizes[dist.get_rank(self._group)]
        sent = x.transpose(0, 1).contiguous()
        received = sent.new_empty(world * own, *sent.shape[1:])
        dist.all_to_all_single(received, sent, [own] * world, self._sizes, group=self._group)
        return received.unflatten(0, (world, own)).permute(2, 1, 0, 3, 4).flatten(2, 3)


class Ring:
    """Diffusers' ring attention, which passes keys and values around (arXiv 2310.01889), also combined with Ulysses."""

    NAME = "diffusers' ring attention"

    def __init__(self, attention: Attention, parallel_config: Any) -> None:
        """Take the place of `attention`; `parallel_config` is diffusers' `ParallelConfig`, set up.

        Raises:
            VqError: `attention` is in 8 bits and lacks the log-sum-exp that joins the parts of a ring.
        """
        if attention.ERROR > FULL_PRECISION:
            raise VqError(f"--ring is for full-precision attention, not for {attention.NAME}: use --ulysses.")
        self.ERROR = attention.ERROR
        self._config = parallel_config

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k and v: `[batch, own tokens, heads, head_dim]` → the same shape as q."""
        from diffusers.models import attention_dispatch

        if q.device.type == "cuda":
            return attention_dispatch.dispatch_attention_fn(
                q, k, v, backend=attention_dispatch.AttentionBackendName._NATIVE_CUDNN, parallel_config=self._config
            )
        return attention_dispatch._templated_context_parallel_attention(
            q, k, v, return_lse=False, forward_op=_on_cpu, backward_op=None, _parallel_config=self._config
        )


def _on_cpu(
    ctx: object,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    *_: object,
    **__: object,
) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp for diffusers' ring, whose own backends do not give it on the CPU."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=scale
    )
    return out.transpose(1, 2), lse.transpose(1, 2)
