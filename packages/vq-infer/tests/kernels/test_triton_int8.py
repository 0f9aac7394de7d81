"""The product against the exact one, by interpreter where there is no GPU; the real one is marked `gpu`."""

import os

import pytest
import torch
from torch import Tensor

from vq_core.numerics.quantize import Quantized
from vq_infer.kernels import cpu, cuda_int8

triton_int8 = pytest.importorskip("vq_infer.kernels.triton_int8", reason="Triton is not installed")


def operands(m: int, n: int, k: int, device: str = "cpu") -> tuple[Quantized, Quantized, Tensor]:
    codes = [torch.randint(-127, 128, (rows, k), dtype=torch.int8, device=device) for rows in (m, n)]
    x, w = (Quantized(code, torch.rand(len(code), 1, device=device) + 0.5) for code in codes)
    return x, w, torch.randn(n, device=device)


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="runs in a process of its own: fused/test_interpreted.py"
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_interpreted_tiles_are_exact(has_bias: bool) -> None:
    x, w, bias = operands(40, 48, 96)
    y = torch.full((40, 48), torch.nan)
    triton_int8._kernel.fn[(3,)](
        x.codes, w.codes, y, x.scale, w.scale, bias if has_bias else w.scale, 40, 48, 96,
        HAS_BIAS=has_bias, BLOCK_M=16, BLOCK_N=16, BLOCK_K=32, GROUP_M=2,
    )  # fmt: skip
    torch.testing.assert_close(y, cpu.multiply(x, w, bias if has_bias else None, torch.float32), rtol=1e-6, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("m", [1, 100, 1000])
def test_equals_torchs_product(m: int) -> None:
    x, w, bias = operands(m, 256, 1536, "cuda")
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
        for some in (bias, None):
            y, expected = triton_int8.multiply(x, w, some, dtype), cuda_int8.multiply(x, w, some, dtype)
            torch.testing.assert_close(y, expected, rtol=tolerance, atol=1e-2)


@pytest.mark.gpu
def test_agrees_on_this_gpu() -> None:
    assert triton_int8.disagreement(torch.device("cuda")) is None
