"""The kernel against plain torch."""

from typing import Any

import pytest
import torch

from vq_infer.fused import gated_sum as torch_form

triton_form = pytest.importorskip("vq_infer.fused.gated_sum_triton", reason="Triton is not installed")


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (2, 1), (2, 5)])
def test_computes_the_same(batch: int, tokens: int, dtype: torch.dtype, random: Any) -> None:
    x, update = random(2, 5, 640, dtype=dtype), random(2, 5, 640, dtype=dtype)
    gate = random(batch, tokens, 640)
    torch.testing.assert_close(
        triton_form.gated_sum(x, update, gate),
        torch_form.gated_sum(x, update, gate),
        rtol=2**-7 if dtype is torch.bfloat16 else 1e-6,
        atol=1e-6,
    )
