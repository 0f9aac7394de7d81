"""A block by itself; `test_transformer.py` holds whole models against diffusers'."""

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformerBlock
from torch import Tensor, nn

from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import NumberFormat
from vq_infer.attention import sdpa
from vq_infer.fused.block import FusedBlock
from vq_infer.fused.norm_rope import Rope
from vq_infer.fused.ops import TORCH_OPS
from vq_infer.kernels import cpu
from vq_infer.kernels.quant_linear import QuantLinear

DIM, HEADS, TOKENS = 48, 4, 24
QUARTERED = ("attn2.to_q", "attn2.to_out.0", "ffn.net.2")


def quantized_block(*, image: bool, rotation: int = 1) -> WanTransformerBlock:
    torch.manual_seed(0)
    added = DIM if image else None
    block = WanTransformerBlock(DIM, 64, HEADS, "rms_norm_across_heads", True, 1e-6, added_kv_proj_dim=added).eval()
    for name, module in list(block.named_modules()):
        if isinstance(module, nn.Linear):
            # Not all alike, so that a rotation that is taken from a neighbour shows.
            weight, group = module.weight.detach(), min(rotation, 4) if name in QUARTERED else rotation
            codes = quantize_weight(rotate(weight, group), NumberFormat.INT8)._replace(rotation=group)
            block.set_submodule(name, QuantLinear(codes, module.bias.detach(), None, cpu))
    return block.requires_grad_(False)


KEPT = {
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "out and cross kv": ("attn1.to_out.0", "attn2.to_k", "attn2.to_v"),
    "cross q and out": ("attn2.to_q", "attn2.to_out.0"),
    "image kv": ("attn2.add_k_proj", "attn2.add_v_proj"),
    "up": ("ffn.net.0.proj",),
    "down": ("ffn.net.2",),
}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_linears_in_full_precision_between_quantized_ones(kept: tuple[str, ...]) -> None:
    block, given = quantized_block(image=True, rotation=16), inputs(image=True, per_token=False)
    for name in kept:
        out_features, in_features = block.get_submodule(name).codes.shape
        block.set_submodule(name, nn.Linear(in_features, out_features).requires_grad_(requires_grad=False))
    expected = block(*given)
    actual = FusedBlock(block, TORCH_OPS, sdpa, sdpa)(*given)
    assert float((actual - expected).norm() / (expected - given[0]).norm()) < 1e-3


def test_an_input_that_only_some_read_as_codes_is_refused() -> None:
    block = quantized_block(image=False)
    block.set_submodule("attn1.to_k", nn.Linear(DIM, DIM))
    with pytest.raises(ValueError, match="linears that are quantized and such that are not cannot be one"):
        FusedBlock(block, TORCH_OPS, sdpa, sdpa)


def inputs(*, image: bool, per_token: bool) -> tuple[Tensor, Tensor, Tensor, Rope]:
    rope = WanRotaryPosEmbed(DIM // HEADS, (1, 2, 2), 32)(torch.zeros(1, 4, 2, 6, 8))
    temb = torch.randn(2, TOKENS, 6, DIM) if per_token else torch.randn(2, 6, DIM)
    return torch.randn(2, TOKENS, DIM), torch.randn(2, 512 + 5 * image, DIM), temb, Rope(*rope)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("rotation", [1, 16])
def test_computes_what_the_block_computes(image: bool, per_token: bool, rotation: int) -> None:
    block = quantized_block(image=image, rotation=rotation)
    given = inputs(image=image, per_token=per_token)
    expected = block(*given)
    actual = FusedBlock(block, TORCH_OPS, sdpa, sdpa)(*given)
    assert float((actual - expected).norm() / (expected - given[0]).norm()) < 1e-3


def test_an_attention_of_ones_own_is_used_for_the_video_alone() -> None:
    class Counting:
        NAME, ERROR, calls = "counting", 0.0, 0

        def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.calls += 1
            assert q.shape[1] == k.shape[1] == TOKENS
            return sdpa.attend(q, k, v)

    attention = Counting()
    FusedBlock(quantized_block(image=True), TORCH_OPS, attention, sdpa)(*inputs(image=True, per_token=False))
    assert attention.calls == 1
