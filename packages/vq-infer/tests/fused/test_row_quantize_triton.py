"""The kernel against plain torch."""

from typing import Any

import pytest
import torch

from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused import row_quantize as torch_form

triton_form = pytest.importorskip("vq_infer.fused.row_quantize_triton", reason="Triton is not installed")
FORMATS = [NumberFormat.INT8, pytest.param(NumberFormat.FP8_E4M3, marks=pytest.mark.gpu)]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dim", [96, 640])
def test_gelu(fmt: NumberFormat, dim: int, dtype: torch.dtype, random: Any, same_codes: Any) -> None:
    x = 2 * random(2, 5, dim, dtype=dtype)
    same_codes(triton_form.gelu_quantize(x, fmt), torch_form.gelu_quantize(x, fmt), fmt)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(("dim", "rotation"), [(96, 1), (640, 64)])
def test_gelu_less_a_mean(
    fmt: NumberFormat, dim: int, rotation: int, dtype: torch.dtype, random: Any, same_codes: Any
) -> None:
    x, mean = 2 * random(2, 5, dim, dtype=dtype), random(dim, dtype=torch.float32)
    ours, theirs = (it.gelu_quantize(x, fmt, rotation, mean) for it in (triton_form, torch_form))
    same_codes(ours, theirs, fmt)
    # A linear in full precision reads what GELU gives, whatever its neighbours subtract.
    values = triton_form.gelu_quantize(x, None, mean=mean)
    assert torch.allclose(values.float(), torch_form.gelu_quantize(x, None).float(), rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize(("dim", "rotation"), [(96, 4), (96, 16), (640, 64), (768, 256), (5120, 256)])
def test_rotated(dim: int, rotation: int, dtype: torch.dtype, random: Any, same_codes: Any) -> None:
    x, fmt = 2 * random(1, 3, dim, dtype=dtype), NumberFormat.INT8
    x[..., 5] = x[..., 5].abs() * 30
    for form in ("gelu_quantize", "sum_quantize"):
        addend = () if form == "gelu_quantize" else (random(1, 3, dim, dtype=dtype),)
        ours, theirs = (getattr(it, form)(x, *addend, fmt, rotation) for it in (triton_form, torch_form))
        assert ours.rotation == theirs.rotation == rotation
        same_codes(ours, theirs, fmt)


@pytest.mark.parametrize("fmt", FORMATS)
def test_sum(fmt: NumberFormat, dtype: torch.dtype, random: Any, same_codes: Any) -> None:
    x, addend = random(2, 5, 640, dtype=dtype), random(2, 5, 640, dtype=dtype)
    for other in (addend, None):
        same_codes(triton_form.sum_quantize(x, other, fmt), torch_form.sum_quantize(x, other, fmt), fmt)


def test_without_a_format_they_give_the_values(dtype: torch.dtype, random: Any) -> None:
    x, addend = 2 * random(2, 5, 640, dtype=dtype), random(2, 5, 640, dtype=dtype)
    for name, given in (("gelu_quantize", (x,)), ("sum_quantize", (x, addend)), ("sum_quantize", (x, None))):
        ours, theirs = (getattr(form, name)(*given, None) for form in (triton_form, torch_form))
        assert ours.dtype == dtype
        assert torch.allclose(ours.float(), theirs.float(), rtol=2**-7, atol=1e-6)


def test_rows_of_zeros_have_codes_of_zero(dtype: torch.dtype, random: Any) -> None:
    tokens = triton_form.sum_quantize(0 * random(1, 2, 96, dtype=dtype), None, NumberFormat.INT8)
    assert not tokens.codes.any()
    assert (tokens.scale > 0).all()
