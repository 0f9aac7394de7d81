"""Breaks that leave every tensor sound, but make the checkpoint another function than its model."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from broken_checkpoints.content import Broken, Content

Q, K = "blocks.1.self_attn.q", "blocks.1.self_attn.k"
UP = "blocks.1.ffn.0"


def gains(content: Content, norm: str, edited: Callable[[Tensor], Tensor]) -> None:
    for part in ("weight", "bias"):
        content.change(f"blocks.1.{norm}.{part}", edited)


def double_one(tensor: Tensor) -> Tensor:
    doubled = tensor.clone()
    doubled[7] *= 2
    return doubled


def swap_linears(content: Content) -> None:
    for part in ("weight", "weight_scale", "bias"):
        content.swap(f"{Q}.{part}", f"{K}.{part}")


def swap_gains(content: Content) -> None:
    for part in ("weight", "bias"):
        content.swap(f"blocks.1.affine_norm1.{part}", f"blocks.1.affine_norm3.{part}")


def exchange(content: Content, first: Path, second: Path, prefixes: tuple[str, str] = ("", "")) -> None:
    """Put the tensors of each file into the other, renamed to the other's names; metadata stay."""
    own, other = prefixes
    to_second = {other + name.removeprefix(own): tensor for name, tensor in content.tensors_in(first).items()}
    to_first = {own + name.removeprefix(other): tensor for name, tensor in content.tensors_in(second).items()}
    content.rewrite(first, lambda tensors: tensors.update(to_first))
    content.rewrite(second, lambda tensors: tensors.update(to_second))


def swap_blocks(content: Content) -> None:
    """Like an exporter that numbers blocks from the end: names and files are those of the other block."""
    first, last = (content.path / f"block_{block}.safetensors" for block in (0, 2))
    exchange(content, first, last, ("blocks.0.", "blocks.2."))


def swap_experts(content: Content) -> None:
    """Like an exporter that mistakes one for the other: each file says that it is where it belongs."""
    for shard in ("block_0", "block_1", "block_2", "non_block"):
        high, low = (content.path / f"{expert}_noise_model/{shard}.safetensors" for expert in ("high", "low"))
        exchange(content, high, low)


def saturate(content: Content) -> None:
    content.change(f"{UP}.weight", lambda codes: (3 * codes.float()).clamp(-127, 127).to(torch.int8))
    content.change(f"{UP}.weight_scale", lambda scale: scale / 4)


FUNCTIONS = (
    Broken(
        "the scales of a linear doubled",
        "loads; its output is twice too large",
        "`blocks.1.ffn.net.0.proj` of transformer is not the source's weight",
        lambda content: content.change(f"{UP}.weight_scale", lambda scale: 2 * scale),
    ),
    Broken(
        "the scale of one row doubled",
        "loads; one output channel is wrong",
        "`blocks.1.ffn.net.0.proj` of transformer is not the source's weight",
        lambda content: content.change(f"{UP}.weight_scale", double_one),
    ),
    Broken(
        "the same in FP8",
        "loads; one output channel is wrong",
        "`blocks.1.ffn.net.0.proj` of transformer is not the source's weight",
        lambda content: content.change(f"{UP}.weight_scale", double_one),
        example="fp8",
    ),
    Broken(
        "codes that saturate",
        "loads; large weights are cut off",
        "`blocks.1.ffn.net.0.proj` of transformer is not the source's weight",
        saturate,
    ),
    Broken(
        "a transposed square weight",
        "loads, and computes nonsense: no shape tells",
        "`blocks.1.attn1.to_q` of transformer is not the source's weight",
        lambda content: content.change(f"{Q}.weight", torch.t),
    ),
    Broken(
        "two linears swapped",
        "loads, and computes nonsense",
        "`blocks.1.attn1.to_q` of transformer is not the source's weight",
        swap_linears,
    ),
    Broken(
        "two blocks swapped",
        "loads, and computes nonsense",
        "`blocks.0.attn1.to_q` of transformer is not the source's weight",
        swap_blocks,
    ),
    Broken(
        "two experts swapped",
        "loads; high and low noise steps are done by the wrong expert",
        "`blocks.0.attn1.to_q` of transformer is not the source's weight",
        swap_experts,
        example="experts",
    ),
    Broken(
        "one wrong gain",
        "loads; one channel is wrong",
        "`blocks.1.ffn.net.0.proj` of transformer is not the source's weight",
        lambda content: gains(content, "affine_norm3", double_one),
    ),
    Broken(
        "the gains of a norm lost",
        "loads; what reads the norm is wrong",
        "The feed forward of block 1 of transformer",
        lambda content: gains(content, "affine_norm3", torch.ones_like),
    ),
    Broken(
        "gains inverted",
        "loads; what reads the norm is wrong",
        "The self attention of block 1 of transformer",
        lambda content: gains(content, "affine_norm1", lambda gain: (1 / gain).bfloat16().float()),
    ),
    Broken(
        "gains of the wrong norm",
        "loads; what reads either norm is wrong",
        "The self attention of block 1 of transformer",
        swap_gains,
    ),
    Broken(
        "the fold into norm3 lost",
        "loads; cross-attention's queries are wrong",
        "The cross attention of block 1 of transformer",
        lambda content: gains(content, "norm3", lambda tensor: tensor * torch.linspace(0.25, 4, len(tensor))),
    ),
    Broken(
        "the fold into the values lost",
        "loads; attention's output is wrong",
        "The self attention of block 1 of transformer",
        lambda content: content.change(
            "blocks.1.self_attn.v.weight_scale", lambda scale: scale * torch.tensor([0.25, 4.0]).repeat(32)[:, None]
        ),
    ),
    Broken(
        "the fold into the text embedding lost",
        "loads; every block reads another text",
        "The cross attention of block 1 of transformer",
        lambda content: content.change(
            "text_embedding.2.weight", lambda weight: weight * torch.linspace(0.25, 4, 64)[:, None]
        ),
    ),
    Broken(
        "the fold into the image embedding lost",
        "loads; every block reads another image",
        "The cross attention of block 1 of transformer",
        lambda content: content.change("img_emb.proj.4.weight", lambda weight: weight * torch.linspace(0.25, 4, 64)),
    ),
    Broken(
        "another block's modulation table",
        "loads; the timestep acts wrongly",
        "`blocks.1.scale_shift_table` of transformer is not the source's",
        lambda content: content.change("blocks.1.modulation", lambda _: content.tensor("blocks.0.modulation")),
    ),
    Broken(
        "another norm of the keys",
        "loads; attention looks elsewhere",
        "`blocks.0.attn1.norm_k.weight` of transformer is not the source's",
        lambda content: content.swap("blocks.0.self_attn.norm_k.weight", "blocks.2.self_attn.norm_k.weight"),
    ),
    Broken(
        "a bias of zeros",
        "loads; the linear has no bias",
        "`blocks.0.ffn.net.2.bias` of transformer is not the source's",
        lambda content: content.change("blocks.0.ffn.2.bias", torch.zeros_like),
    ),
)
