import pytest
import torch

from vq_core.numerics.grouped import Packed, pack, quantize_grouped
from vq_infer.kernels.decode import decode


def packed(bits: int, columns: int, device: str = "cpu") -> tuple[Packed, torch.Tensor]:
    """A packed weight, with groups of every magnitude, and the codes that it decodes to."""
    generator = torch.Generator().manual_seed(columns)
    weight = torch.randn(37, columns, generator=generator) * torch.logspace(0, -5, columns)
    weight[5] = 0
    quantized = quantize_grouped(weight, bits)._replace(rotation=16)
    return Packed(*(it.to(device) for it in pack(quantized)[:3]), 16), quantized.codes


@pytest.mark.parametrize("bits", [4, 6])
def test_codes_scale_and_rotation_come_back(bits: int) -> None:
    stored, codes = packed(bits, 96)
    found = decode(stored)
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.scale, stored.scale)
    assert found.rotation == 16


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("columns", [32, 1024, 8960, 13824])
def test_on_cuda_every_code_is_the_same(bits: int, columns: int) -> None:
    pytest.importorskip("triton")
    stored, codes = packed(bits, columns, "cuda")
    assert torch.equal(decode(stored).codes.cpu(), codes)
