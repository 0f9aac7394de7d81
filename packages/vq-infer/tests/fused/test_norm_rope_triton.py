"""The kernel against plain torch."""

from typing import Any

import pytest
import torch

from vq_infer.fused import norm_rope as torch_form

triton_form = pytest.importorskip("vq_infer.fused.norm_rope_triton", reason="Triton is not installed")


@pytest.mark.parametrize("dim", [96, 640])
@pytest.mark.parametrize("turned", [True, False])
def test_computes_the_same(dim: int, turned: bool, dtype: torch.dtype, random: Any) -> None:
    qkv, weights = random(2, 5, 3 * dim, dtype=dtype), random(2, dim, dtype=dtype)
    rope = torch_form.Rope(random(1, 5, 1, dim // 4), random(1, 5, 1, dim // 4)) if turned else None
    actual = triton_form.norm_rope(qkv[..., : 2 * dim], weights, 1e-6, rope, 4)
    expected = torch_form.norm_rope(qkv[..., : 2 * dim], weights, 1e-6, rope, 4)
    tolerance = 2**-7 if dtype is torch.bfloat16 else 1e-5
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()) / 8)
