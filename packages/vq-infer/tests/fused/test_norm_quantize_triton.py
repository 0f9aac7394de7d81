"""The kernels against plain torch."""

from typing import Any

import pytest
import torch

from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused import norm_quantize as torch_form

triton_form = pytest.importorskip("vq_infer.fused.norm_quantize_triton", reason="Triton is not installed")
FORMATS = [NumberFormat.INT8, pytest.param(NumberFormat.FP8_E4M3, marks=pytest.mark.gpu)]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dim", [96, 640])  # one chunk with a rest, and several
@pytest.mark.parametrize("case", ["plain", "affine", "gain", "update", "gate", "per token", "rotated"])
def test_computes_the_same(
    fmt: NumberFormat, dim: int, case: str, dtype: torch.dtype, random: Any, same_codes: Any
) -> None:
    x, update = random(2, 5, dim, dtype=dtype), random(2, 5, dim, dtype=dtype)
    gate = random(2, 5 if case == "per token" else 1, dim)
    arguments: dict[str, Any] = {
        "plain": {},
        "affine": {},
        "gain": {"gain": random(dim).abs() + 0.5},
        "update": {"update": update},
        "gate": {"update": update, "gate": gate},
        "per token": {"update": update, "gate": gate},
        "rotated": {
            "gain": random(dim).abs() + 0.5,
            "update": update,
            "gate": gate,
            "rotation": 64 if dim > 96 else 16,
        },
    }[case]
    shapes = ((dim,), (dim,)) if case == "affine" else ((2, 5 if case == "per token" else 1, dim), (1, 1, dim))
    vectors = [random(*shape) for shape in shapes]
    summed, tokens = triton_form.norm_quantize(x, *vectors, 1e-6, fmt, **arguments)
    expected_sum, expected = torch_form.norm_quantize(x, *vectors, 1e-6, fmt, **arguments)
    torch.testing.assert_close(summed, expected_sum, rtol=2**-7 if dtype is torch.bfloat16 else 1e-6, atol=1e-6)
    same_codes(tokens, expected, fmt)


def test_without_a_format_it_gives_the_values(dtype: torch.dtype, random: Any) -> None:
    x, update = random(2, 5, 640, dtype=dtype), random(2, 5, 640, dtype=dtype)
    vectors = random(2, 1, 640), random(2, 1, 640)
    (our_x, ours), (their_x, theirs) = (
        form.norm_quantize(x, *vectors, 1e-6, None, None, update) for form in (triton_form, torch_form)
    )
    assert torch.equal(our_x, their_x)
    assert ours.dtype == dtype
    assert torch.allclose(ours.float(), theirs.float(), rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (2, 1), (2, 5)])
def test_computes_the_same_residual(batch: int, tokens: int, dtype: torch.dtype, random: Any) -> None:
    x, update = random(2, 5, 640, dtype=dtype), random(2, 5, 640, dtype=dtype)
    gate = random(batch, tokens, 640)
    ours, theirs = (form.gated_sum(x, update, gate) for form in (triton_form, torch_form))
    torch.testing.assert_close(ours, theirs, rtol=2**-7 if dtype is torch.bfloat16 else 1e-6, atol=1e-6)
