"""Transformer, text and image encoder as one module to train, with short texts equal to the pipeline's 512 tokens.

The pipeline pads every text embedding with zeros to 512 tokens. All of them have the same key and value, so here one
stands for all, with the logarithm of their number added to its logit: the softmax is the same.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wan_tiny.training import parts
from wan_tiny.training.dataset import TEXT_TOKENS

PIPELINE_TEXT_TOKENS = 512
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Denoiser(nn.Module):
    """Predicts the flow from noisy latents, conditions, first frames and captions."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.transformer = parts.build_transformer()
        self.text_encoder = parts.build_text_encoder()
        self.image_encoder = parts.build_image_encoder()
        for block in self.transformer.blocks:
            block.attn1.set_processor(ShortTextAttention())
            block.attn2.set_processor(ShortTextAttention())
        self.register_buffer("pixel_mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embeddings [N, 65, text_dim] of `tokens` [N, 64]: zero behind the text's end."""
        mask = tokens != 0
        hidden = self.text_encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return functional.pad(hidden * mask[..., None], (0, 0, 0, 1))

    def encode_image(self, images: Tensor) -> Tensor:
        """Hidden states [N, 37, image_dim] of the last layer but one, of `images` uint8 [N, 3, 96, 96]."""
        pixels = (images / 255 - self.pixel_mean) / self.pixel_std
        hidden: Tensor = self.image_encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        return hidden

    def forward(self, latents: Tensor, conditions: Tensor, sigma: Tensor, text: Tensor, image: Tensor) -> Tensor:
        """Flow [N, 16, 5, 12, 12] at noise levels `sigma` [N] in 0..1, of encoded `text` and `image`."""
        flow: Tensor = self.transformer(
            torch.cat((latents, conditions), dim=1), sigma * 1000, text, image, return_dict=False
        )[0]
        return flow


class ShortTextAttention:
    """Wan's attention, for a context that ends in 64 text tokens and one zero that stands for all other paddings."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        heads = (attn.heads, -1)
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, heads).transpose(1, 2)
        context = hidden_states
        if encoder_hidden_states is not None:
            image_tokens = encoder_hidden_states.shape[1] - TEXT_TOKENS - 1
            image, context = encoder_hidden_states.split((image_tokens, TEXT_TOKENS + 1), dim=1)
        key = attn.norm_k(attn.to_k(context)).unflatten(2, heads).transpose(1, 2)
        value = attn.to_v(context).unflatten(2, heads).transpose(1, 2)
        if rotary_emb is not None:
            query, key = (_rotate(tensor, *rotary_emb) for tensor in (query, key))
        mask = None if encoder_hidden_states is None else _padding_logits(query)
        mixed = functional.scaled_dot_product_attention(query, key.to(query), value.to(query), attn_mask=mask)
        if encoder_hidden_states is not None:
            key = attn.norm_added_k(attn.add_k_proj(image)).unflatten(2, heads).transpose(1, 2)
            value = attn.add_v_proj(image).unflatten(2, heads).transpose(1, 2)
            mixed = mixed + functional.scaled_dot_product_attention(query, key.to(query), value.to(query))
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


def _padding_logits(query: Tensor) -> Tensor:
    """Added to the logits of the text: log 448 at the last key, which stands for 448 paddings."""
    logits = query.new_zeros(TEXT_TOKENS + 1)
    logits[-1] = math.log(PIPELINE_TEXT_TOKENS - TEXT_TOKENS)
    return logits.expand(1, 1, query.shape[2], -1)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of `states` [N, heads, tokens, dim] by `cos`, `sin` [1, tokens, 1, dim]."""
    even, odd = states.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., ::2].transpose(1, 2), sin[..., ::2].transpose(1, 2)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(states)
