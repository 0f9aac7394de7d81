"""The kernels that make codes against the same in torch: on a GPU, and on the CPU through Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch

from vq_infer.eight_bit import reference

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

# The interpreter must be asked for before Triton is imported. It loses the carry of a mantissa rounded up to the next
# power of two in FP8, so v is made of codes; it has no bfloat16, so inputs are fp32.
INTERPRETED = """
from dataclasses import fields
import torch
from vq_infer.eight_bit import quantize as kernels
from vq_infer.eight_bit import reference

kernels.CHUNK = 64  # so that there are several
generator = torch.Generator().manual_seed(0)
q, k = (torch.randn(1, tokens, 2, 40, generator=generator) for tokens in (130, 150))
k[..., 3] = 4 * k[..., 3] + 5
half = torch.randn(1, 75, 3, 2, 40, generator=generator) * 100
half[:, 0] = 448
fused = torch.cat([half, -half], 1).to(torch.float8_e4m3fn).float()
inputs = q, k, fused[:, :, 2]
ours, theirs = kernels.quantize(*inputs), reference.quantize(*inputs)
for field in fields(ours):
    a, b = (getattr(operands, field.name).float() for operands in (ours, theirs))
    # Sums are taken in another order: what stands between two codes may go to either.
    assert a.shape == b.shape, field.name
    off = (a - b).abs() > 1e-5 * b.abs() + 1e-6
    assert off.float().mean() < 1e-3, (field.name, off.float().mean())
    assert (a - b).abs().max() <= 32, field.name
print("equal")
"""


@needs_triton
def test_the_kernels_compute_what_torch_does_in_tritons_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "equal", result.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("queries", "keys", "dim"), [(1, 1, 64), (130, 700, 64), (1500, 1000, 128), (50, 100, 24)])
def test_codes_on_cuda_are_those_of_torch(
    queries: int, keys: int, dim: int, dtype: torch.dtype, hard: Callable[..., Any]
) -> None:
    from vq_infer.eight_bit.quantize import quantize

    inputs = hard(queries, keys, dim, dtype=dtype).cuda()
    ours, theirs = quantize(*inputs), reference.quantize(*inputs)
    # fp32 is rotated in tf32, whose eleven bits move a code by one here and there.
    moved = 0.05 if dtype is torch.float32 else 1e-3
    for field in fields(ours):
        a, b = (getattr(operands, field.name).float() for operands in (ours, theirs))
        if keys == 1 and field.name in ("k", "k_scale", "v", "v_scale", "v_mean"):
            continue  # k and v less their mean are rounding errors
        off = (a - b).abs() > 2e-3 * b.abs() + 1e-6
        assert off.float().mean() <= moved, field.name
