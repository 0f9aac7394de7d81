"""The block in both readings; that it is diffusers' own is tested where diffusers is installed, in tests/."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vq_core.families import wan
from vq_core.model.source import open_source
from vq_export.verify.checks.wan_block import BlockInputs, BlockShape, diffusers_block, native_block

SHAPE = BlockShape(4, 1e-6)
DIM = 64


@pytest.fixture
def tensors(models: dict[str, Path]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = open_source(str(models["i2v"])).components["transformer"].topology.tensors
    return {
        name.removeprefix("blocks.0."): 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
        if name.startswith("blocks.0.")
    }


@pytest.fixture
def inputs() -> BlockInputs:
    generator = torch.Generator().manual_seed(1)
    hidden, text, image, modulation = (
        torch.randn(rows, DIM, generator=generator, dtype=torch.float64) for rows in (7, 5, 4, 6)
    )
    angles = torch.randn(7, 8, generator=generator, dtype=torch.float64)
    return BlockInputs(hidden, text, image, modulation, angles.cos(), angles.sin())


def linear(tensors: dict[str, Tensor]) -> Any:
    return lambda stem, x: F.linear(x, tensors[f"{stem}.weight"], tensors[f"{stem}.bias"])


def native(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {wan.to_native(f"blocks.0.{name}").removeprefix("blocks.0."): tensor for name, tensor in tensors.items()}


def test_a_gain_multiplies_scale_and_shift_of_its_own_norm(tensors: dict[str, Tensor], inputs: BlockInputs) -> None:
    """The literal formula: with gain 2 on a norm and its linears halved, nothing changes; any other way, it does."""
    expected = diffusers_block(inputs, tensors, linear(tensors), SHAPE)
    ones = {f"affine_norm{n}.{part}": torch.ones(DIM) for n in (1, 3) for part in ("weight", "bias")}
    halved = native(tensors) | {"ffn.0.weight": native(tensors)["ffn.0.weight"] / 2}
    twice = {"affine_norm3.weight": torch.full((DIM,), 2.0), "affine_norm3.bias": torch.full((DIM,), 2.0)}

    def feed_forward(read: dict[str, Tensor], smoothed: bool = True) -> Tensor:
        return native_block(inputs, read, linear(read), SHAPE, smoothed=smoothed).feed_forward

    torch.testing.assert_close(feed_forward(halved | ones | twice), expected.feed_forward, rtol=1e-12, atol=1e-12)
    for wrong in (
        ones,
        ones | twice | {"affine_norm3.bias": torch.zeros(DIM)},
        ones | {"affine_norm1.weight": twice["affine_norm3.weight"], "affine_norm1.bias": twice["affine_norm3.bias"]},
    ):
        error = (feed_forward(halved | wrong) - expected.feed_forward).norm() / expected.feed_forward.norm()
        assert error > 0.05
    assert not torch.allclose(feed_forward(halved | ones | twice, smoothed=False), expected.feed_forward, rtol=0.01)


def test_without_an_image_nothing_of_it_is_read(tensors: dict[str, Tensor], inputs: BlockInputs) -> None:
    text_only = BlockInputs(inputs.hidden, inputs.text, None, inputs.modulation, inputs.cos, inputs.sin)
    kept = {name: tensor for name, tensor in tensors.items() if "add" not in name}
    assert diffusers_block(text_only, kept, linear(kept), SHAPE).cross_attention.shape == (7, DIM)
