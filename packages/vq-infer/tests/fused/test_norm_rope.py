"""Against diffusers' own norm and rotation, and against complex numbers."""

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import nn

from vq_infer.fused.norm_rope import Rope, norm_rope

EPS = 1e-6


@pytest.fixture
def rope() -> Rope:
    embedding = WanRotaryPosEmbed(24, (1, 2, 2), 32)
    return Rope(*embedding(torch.zeros(1, 4, 2, 4, 6)))


def test_turns_pairs_as_complex_numbers(rope: Rope) -> None:
    x, weights = torch.randn(2, 12, 2 * 96), torch.rand(2, 96)
    turn = torch.complex(rope.cos[0, :, 0, ::2].double(), rope.sin[0, :, 0, ::2].double())[None, :, None]
    for part, weight, out in zip(x.double().chunk(2, -1), weights, norm_rope(x, weights, EPS, rope, 4), strict=True):
        normed = part / (part.square().mean(-1, keepdim=True) + EPS).sqrt() * weight
        pairs = torch.view_as_complex(normed.unflatten(-1, (4, 12, 2)).contiguous()) * turn
        torch.testing.assert_close(out.double(), torch.view_as_real(pairs).flatten(-2), rtol=1e-5, atol=1e-5)
        assert out.is_contiguous()


def test_without_rope_it_is_torchs_norm() -> None:
    norm = nn.RMSNorm(96, eps=EPS)
    nn.init.uniform_(norm.weight)
    x = torch.randn(2, 5, 96).bfloat16()
    (out,) = norm_rope(x, norm.weight[None], EPS, None, 4)
    torch.testing.assert_close(out.flatten(2), norm(x.float()).bfloat16(), rtol=0, atol=0)


def test_reads_a_slice_of_longer_rows(rope: Rope) -> None:
    qkv, weights = torch.randn(1, 12, 3 * 96), torch.rand(2, 96)
    sliced = norm_rope(qkv[..., : 2 * 96], weights, EPS, rope, 4)
    copied = norm_rope(qkv[..., : 2 * 96].clone(), weights, EPS, rope, 4)
    assert all(torch.equal(a, b) for a, b in zip(sliced, copied, strict=True))
