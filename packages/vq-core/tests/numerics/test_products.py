"""Products of codes against 64-bit integers and floats."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vq_core.numerics import products
from vq_core.numerics.products import product_of_codes, product_on_tensor_cores
from vq_core.numerics.quantize import quantize_tokens, quantize_weight
from vq_core.numerics.scheme import NumberFormat


@pytest.fixture(params=[True, False], ids=["8-bit", "fp32"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Does the processor multiply int8? Torch does on any, but may take its time."""
    monkeypatch.setattr(products, "multiplies_int8", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("in_features", [1, 1040, 1041, 5120])
def test_int8_is_exact_at_the_largest_codes(in_features: int, instructions: bool) -> None:
    # Odd sums near 127²·K: one lost bit of a partial sum shows.
    x = torch.full((3, in_features), 127, dtype=torch.int8)
    weight = torch.full((2, in_features), 127, dtype=torch.int8)
    weight[1, : in_features // 2] = -126
    y = product_of_codes(x, weight)
    exact = x.long() @ weight.long().t()
    if in_features <= products.EXACT_K:
        assert torch.equal(y.long(), exact)
    if instructions:
        assert torch.equal(y, exact.float())
    torch.testing.assert_close(y.double(), exact.double(), rtol=2**-23, atol=0)


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
    assert products.multiplies_int8.__wrapped__() is found


def test_long_fp8_sums_are_those_of_fp32() -> None:
    torch.manual_seed(0)
    x, weight = (quantize_tokens(torch.randn(rows, 5120), NumberFormat.FP8_E4M3).codes for rows in (64, 48))
    exact = x.double() @ weight.double().t()
    error = float((product_of_codes(x, weight).double() - exact).norm() / exact.norm())
    assert error < 1e-6  # a product rounded to bfloat16 has 1e-3


def test_another_thread_s_products_stay_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with bfloat16 instructions: settings of torch hold for every thread of the process."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    codes = quantize_tokens(torch.randn(1024, 1024), NumberFormat.FP8_E4M3).codes
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch makes it as it is imported
    before, seen = matmul.fp32_precision, set()
    with ThreadPoolExecutor(1) as beside:
        product = beside.submit(product_of_codes, codes, codes)
        while not product.done():
            seen.add(matmul.fp32_precision)
    assert seen == {before}


def test_exact_k_is_the_longest() -> None:
    assert products.EXACT_K * 127 * 128 <= 2**24 < (products.EXACT_K + 1) * 127 * 128


SHAPES = {
    "fmt": st.sampled_from(NumberFormat),
    "tokens": st.integers(0, 9),
    "in_features": st.integers(1, 40),
    "out_features": st.integers(1, 20),
    "seed": st.integers(0, 99),
}


def operands(
    fmt: NumberFormat, tokens: int, in_features: int, out_features: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of tokens and of a weight, and their product in fp64."""
    generator = torch.Generator().manual_seed(seed)
    x = quantize_tokens(torch.randn(tokens, in_features, generator=generator), fmt).codes
    weight = quantize_weight(torch.randn(out_features, in_features, generator=generator), fmt).codes
    return x, weight, x.double() @ weight.double().t()


@pytest.mark.parametrize("eight_bit", [True, False])
@given(**SHAPES)
def test_any_shape_against_float64(eight_bit: bool, **shape: int) -> None:
    x, weight, exact = operands(**shape)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "multiplies_int8", lambda: eight_bit)
        y = product_of_codes(x, weight)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0.5)


def test_every_code_is_a_bfloat16_value() -> None:
    int8 = torch.arange(-128, 128).to(torch.int8)
    e4m3 = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn)
    for codes in (int8, e4m3[torch.isfinite(e4m3.float())]):
        assert torch.equal(codes.bfloat16().double(), codes.double())


@given(**SHAPES)
def test_tensor_cores_take_bfloat16_and_sum_in_fp32(**shape: int) -> None:
    """With a stand-in for the one operation that CPUs lack."""

    def mm(a: Tensor, b: Tensor, *, out_dtype: torch.dtype) -> Tensor:
        assert (a.dtype, b.dtype, out_dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
        return a.to(out_dtype) @ b.to(out_dtype)

    x, weight, exact = operands(**shape)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "mm", mm)
        y = product_on_tensor_cores(x, weight)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0.5)
