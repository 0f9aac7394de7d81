"""The plain-torch Wan block that `verify` computes is diffusers' own, in float64, in both of its readings."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor

from vq_core.families import wan
from vq_core.numerics.folding import fold_group
from vq_export.verify.checks.wan_block import BlockInputs, BlockShape, Branches, diffusers_block, native_block

HEADS, HEAD_DIM, FFN = 3, 8, 40
DIM = HEADS * HEAD_DIM
TEXT_TOKENS = 512  # diffusers takes what stands before the last 512 tokens for the image's
SHAPE = BlockShape(HEADS, 1e-6)
PREFIX = "blocks.0."


def config(image: bool) -> dict[str, Any]:
    return {
        "num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM, "num_layers": 1, "ffn_dim": FFN,
        "in_channels": 4, "out_channels": 4, "text_dim": 8, "freq_dim": 8, "patch_size": [1, 2, 2],
        "qk_norm": "rms_norm_across_heads", "cross_attn_norm": True, "eps": 1e-6,
        "image_dim": 16 if image else None, "added_kv_proj_dim": DIM if image else None,
    }  # fmt: skip


@pytest.fixture(params=[False, True], ids=["t2v", "i2v"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WanTransformerBlock:
    """diffusers' block with random weights. It casts to fp32 in many places; here these casts are to fp64."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.manual_seed(0)
    made = WanTransformerBlock(
        DIM, FFN, HEADS, cross_attn_norm=True, eps=1e-6, added_kv_proj_dim=DIM if request.param else None
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 1))
    return made.double().eval()


@pytest.fixture
def inputs(block: WanTransformerBlock) -> BlockInputs:
    torch.manual_seed(1)
    angles = torch.randn(10, HEAD_DIM // 2, dtype=torch.float64)
    hidden, text, image = (torch.randn(tokens, DIM, dtype=torch.float64) for tokens in (10, TEXT_TOKENS, 5))
    modulation = torch.randn(6, DIM, dtype=torch.float64)
    reads_image = block.attn2.add_k_proj is not None
    return BlockInputs(hidden, text, image if reads_image else None, modulation, angles.cos(), angles.sin())


@torch.no_grad()
def from_diffusers(block: WanTransformerBlock, inputs: BlockInputs) -> Tensor:
    context = inputs.text if inputs.image is None else torch.cat([inputs.image, inputs.text])
    rotary = [angles.repeat_interleave(2, dim=-1)[None, :, None] for angles in (inputs.cos, inputs.sin)]
    return block(inputs.hidden[None], context[None], inputs.modulation[None], rotary)[0]


def state(block: WanTransformerBlock) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in block.state_dict().items()}


def linear(tensors: dict[str, Tensor]) -> Any:
    return lambda stem, x: F.linear(x, tensors[f"{stem}.weight"], tensors[f"{stem}.bias"])


def total(inputs: BlockInputs, branches: Branches) -> Tensor:
    return inputs.hidden + branches.self_attention + branches.cross_attention + branches.feed_forward


def smoothed(block: WanTransformerBlock) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor]:
    """The block's tensors with random gains in every group, the modulated norms' gains, and those of text and image."""
    topology = wan.topology(config(block.attn2.add_k_proj is not None))
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in state(block).items()}
    tensors |= {name: torch.ones(length, dtype=torch.float64) for name, length in topology.gains.items()}
    conditions = {"text": torch.ones(DIM, dtype=torch.float64), "image": torch.ones(DIM, dtype=torch.float64)}
    for group in topology.groups:
        if group.sink is not None:
            gain = 4 ** (2 * torch.rand(group.in_features, dtype=torch.float64) - 1)
            fold_group(tensors, group, gain)
            if group.name in conditions:
                conditions[group.name] = gain
    inside = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    gains = {name: inside.pop(name) for name in ("norm1.gain", "norm3.gain")}
    return inside, gains, conditions["text"], conditions["image"]


def gained(inputs: BlockInputs, text: Tensor, image: Tensor) -> BlockInputs:
    pictured = None if inputs.image is None else inputs.image * image
    return BlockInputs(inputs.hidden, inputs.text * text, pictured, inputs.modulation, inputs.cos, inputs.sin)


def test_in_diffusers_order_it_is_diffusers_block(block: WanTransformerBlock, inputs: BlockInputs) -> None:
    tensors = state(block)
    ours = total(inputs, diffusers_block(inputs, tensors, linear(tensors), SHAPE))
    torch.testing.assert_close(ours, from_diffusers(block, inputs), rtol=1e-11, atol=1e-11)


def test_smoothed_with_gains_it_is_diffusers_block(block: WanTransformerBlock, inputs: BlockInputs) -> None:
    tensors, gains, text, image = smoothed(block)
    own = gained(inputs, text, image)
    ours = total(own, diffusers_block(own, tensors, linear(tensors), SHAPE, gains))
    torch.testing.assert_close(ours, from_diffusers(block, inputs), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("smooth", [False, True])
def test_as_lightx2v_reads_and_orders_it_it_is_diffusers_block(
    block: WanTransformerBlock, inputs: BlockInputs, smooth: bool
) -> None:
    tensors, gains, text, image = smoothed(block)
    own = gained(inputs, text, image) if smooth else inputs
    native = {wan.to_native(f"{PREFIX}{name}").removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    if not smooth:
        native = {wan.to_native(f"{PREFIX}{name}").removeprefix(PREFIX): t for name, t in state(block).items()}
    for number, gain in ((1, gains["norm1.gain"]), (3, gains["norm3.gain"])):
        native |= {f"affine_norm{number}.{part}": gain for part in ("weight", "bias")}
    ours = total(own, native_block(own, native, linear(native), SHAPE, smoothed=smooth))
    torch.testing.assert_close(ours, from_diffusers(block, inputs), rtol=1e-10, atol=1e-10)
