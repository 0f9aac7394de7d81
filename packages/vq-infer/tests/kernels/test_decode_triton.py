"""The kernel against `unpack`, by Triton's interpreter; on a GPU in `test_decode.py`."""

import os

import pytest
import torch

from vq_core.numerics.grouped import pack, quantize_grouped

decode_triton = pytest.importorskip("vq_infer.kernels.decode_triton", reason="Triton is not installed")


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="runs in a process of its own: fused/test_interpreted.py"
)
@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("columns", [32, 96, 160])
def test_interpreted_codes_are_those_of_torch(bits: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_triton, "BLOCK", 64)
    weight = torch.randn(5, columns, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -5, columns)
    weight[1] = 0
    quantized = quantize_grouped(weight, bits)
    assert torch.equal(decode_triton.decode(pack(quantized)).codes, quantized.codes)
