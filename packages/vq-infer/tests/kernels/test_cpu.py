"""The CPU kernel against 64-bit integers and floats."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.numerics.quantize import Quantized, quantize_tokens, quantize_weight
from vq_core.scheme import NumberFormat
from vq_infer.kernels import cpu


@pytest.fixture(params=[True, False], ids=["8-bit", "fp32"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Does the processor multiply int8? Torch does on any, but may take its time."""
    monkeypatch.setattr(cpu, "multiplies_int8", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("in_features", [1, 1040, 1041, 5120])
def test_int8_products_are_exact_at_the_largest_codes(in_features: int, instructions: bool) -> None:
    # Odd sums near 127²·K: one lost bit of a partial sum shows.
    x = torch.full((3, in_features), 127, dtype=torch.int8)
    weight = torch.full((2, in_features), 127, dtype=torch.int8)
    weight[1, : in_features // 2] = -126
    ones = torch.ones
    y = cpu.multiply(Quantized(x, ones(3, 1)), Quantized(weight, ones(2, 1)), None, torch.float32)
    exact = x.long() @ weight.long().t()
    if in_features <= cpu.EXACT_K:
        assert torch.equal(y.long(), exact)
    if instructions:
        assert torch.equal(y, exact.float())
    torch.testing.assert_close(y.double(), exact.double(), rtol=2**-23, atol=0)


def test_a_code_is_widened_as_torch_does() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    e4m3 = codes.view(torch.float8_e4m3fn)[codes & 0x7F != 0x7F]  # all but the two that are NaN
    assert torch.equal(cpu.widened(e4m3).view(torch.int32), e4m3.float().view(torch.int32))
    assert torch.equal(cpu.widened(e4m3.reshape(2, 127)[:, 3:9]), e4m3.reshape(2, 127)[:, 3:9].float())
    assert torch.equal(cpu.widened(codes.view(torch.int8)), codes.view(torch.int8).float())


@pytest.mark.parametrize(
    ("capabilities", "found"),
    [
        ({"avx2": True}, False),
        ({"avx512_vnni": True, "amx_int8": False}, True),
        ({"amx_int8": True}, True),
        ({}, False),
    ],
)
def test_8_bit_instructions_are_those_that_torch_uses(
    capabilities: dict[str, bool], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu.multiplies_int8.__wrapped__() is found


@pytest.mark.parametrize("found", [True, False])
def test_bfloat16_instructions_are_asked_for(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": found})
    assert cpu.multiplies_bfloat16.__wrapped__() is found


@pytest.mark.parametrize("bfloat16", [True, False])
def test_long_fp8_sums_are_those_of_fp32(bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "multiplies_bfloat16", lambda: bfloat16)
    torch.manual_seed(0)
    x, weight = (quantize_tokens(torch.randn(rows, 5120), NumberFormat.FP8_E4M3) for rows in (64, 48))
    y = cpu.multiply(x, weight, None, torch.float32).double()
    exact = (x.codes.double() * x.scale.double()) @ (weight.codes.double() * weight.scale.double()).t()
    assert float((y - exact).norm() / exact.norm()) < 1e-6  # a product rounded to bfloat16 has 1e-3


def test_other_products_stay_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "multiplies_bfloat16", lambda: True)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    codes = quantize_tokens(torch.randn(4, 8), NumberFormat.FP8_E4M3)
    cpu.multiply(codes, codes, None, torch.float32)
    assert matmul.fp32_precision == before
    with pytest.raises(RuntimeError):
        cpu.multiply(codes, Quantized(codes.codes[:, :5], codes.scale), None, torch.float32)
    assert matmul.fp32_precision == before


def test_exact_k_is_the_longest() -> None:
    assert cpu.EXACT_K * 127 * 128 <= 2**24 < (cpu.EXACT_K + 1) * 127 * 128


@pytest.mark.parametrize("eight_bit", [True, False])
@given(
    fmt=st.sampled_from(NumberFormat),
    tokens=st.integers(0, 9),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_any_shape_against_float64(
    eight_bit: bool, fmt: NumberFormat, tokens: int, in_features: int, out_features: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = quantize_tokens(torch.randn(tokens, in_features, generator=generator), fmt)
    weight = quantize_weight(torch.randn(out_features, in_features, generator=generator), fmt)
    bias = torch.randn(out_features, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "multiplies_int8", lambda: eight_bit)
        y = cpu.multiply(x, weight, bias, torch.float32)
    exact = (x.codes.double() * x.scale.double()) @ (weight.codes.double() * weight.scale.double()).t() + bias.double()
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
