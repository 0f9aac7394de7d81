"""GPTQ's codes against a literal GPTQ with an explicit inverse Hessian, in fp64."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_algos.layer.hessian import Hessian
from vq_algos.rounding import column_rounding
from vq_algos.rounding.column_rounding import round_columns
from vq_core.numerics.grouped import LEVELS, group_scale
from vq_core.numerics.quantize import Groups, dequantize, quantize_weight, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat, Rounding

EVEN = Rounding.NEAREST_EVEN


def _literal_gptq(
    weight: Tensor, scale: Tensor, h: Tensor, damp: float, round_column: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Values of the codes by equations 2 and 3 of the paper: the inverse is taken once and updated at every column."""
    h = h.clone()
    dead = h.diagonal() == 0
    order = torch.argsort(h.diagonal(), stable=True).flip(0)
    mean = h.diagonal()[~dead].mean()
    h[dead, dead] = 1
    inverse = torch.linalg.inv(h + damp * mean * torch.eye(len(h), dtype=torch.float64))
    rest = weight.double().clone()
    values = torch.zeros_like(rest)
    for k in order.tolist():
        values[:, k] = round_column((rest[:, k] / scale[:, 0].double()).float(), k).double()
        error = (rest[:, k] - values[:, k] * scale[:, 0].double()) / inverse[k, k]
        rest -= torch.outer(error, inverse[k])
        inverse = inverse - torch.outer(inverse[:, k], inverse[k]) / inverse[k, k]
        inverse[k, k] = 1  # a row of zeros from here on; the diagonal is divided by only at its own column
    return values


def _problem(rows: int, channels: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, correlated inputs, and the weights of the tokens."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, channels, generator=generator)
    mixing = torch.randn(max(1, channels // 3), channels, generator=generator)
    x_hat = torch.randn(tokens, len(mixing), generator=generator) @ mixing
    x_hat += 0.3 * torch.randn(tokens, channels, generator=generator)
    return weight, x_hat, torch.rand(tokens, generator=generator) + 0.5


def _gram(x_hat: Tensor, token_weight: Tensor) -> Tensor:
    return x_hat.double().T @ (x_hat.double() * token_weight.double().unsqueeze(1))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", NumberFormat)
@pytest.mark.parametrize("damp", [0.01, 0.3])
@pytest.mark.parametrize("tokens", [12, 200])  # fewer than channels, and more
def test_codes_are_those_of_the_paper(
    tokens: int, damp: float, fmt: NumberFormat, rounding: Rounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_rounding, "BLOCK", 16)
    weight, x_hat, token_weight = _problem(20, 40, tokens)
    x_hat[:, [3, 30]] = 0
    scale = weight_scale(weight, fmt)
    codes, same_scale, *_ = round_columns(weight, scale, Hessian(x_hat, token_weight).factor(damp), fmt, rounding)
    assert same_scale is scale
    expected = _literal_gptq(
        weight, scale, _gram(x_hat, token_weight), damp, lambda x, _: round_to_codes(x, fmt, rounding)
    )
    assert torch.equal(codes.double(), expected)


@pytest.mark.parametrize("bits", LEVELS)
@pytest.mark.parametrize("tokens", [12, 200])
def test_with_groups_every_column_takes_the_nearest_of_what_its_group_decodes_to(
    tokens: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_rounding, "BLOCK", 16)
    weight, x_hat, token_weight = _problem(20, 64, tokens)
    x_hat[:, [3, 30]] = 0
    scale = weight_scale(weight, NumberFormat.INT8)
    groups = Groups(group_scale(weight, scale, bits), bits)
    factor = Hessian(x_hat, token_weight).factor(0.1)
    found = round_columns(weight, scale, factor, NumberFormat.INT8, EVEN, groups)

    def nearest(x: Tensor, column: int) -> Tensor:
        relative = groups.scale[:, column // 16].float().unsqueeze(1)
        values = (torch.tensor(LEVELS[bits]) * relative).round().clamp(-127, 127)
        return values.gather(1, (values - x.unsqueeze(1)).abs().argmin(dim=1, keepdim=True)).squeeze(1)

    expected = _literal_gptq(weight, scale, _gram(x_hat, token_weight), 0.1, nearest)
    assert torch.equal(found.codes.double(), expected)
    assert found.groups is groups


@pytest.mark.parametrize("block", [1, 7, 40, 128])
def test_codes_do_not_depend_on_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x_hat, token_weight = _problem(10, 40, 100)
    scale, factor = weight_scale(weight, NumberFormat.INT8), Hessian(x_hat, token_weight).factor(0.1)
    whole = round_columns(weight, scale, factor, NumberFormat.INT8, EVEN).codes
    monkeypatch.setattr(column_rounding, "BLOCK", block)
    assert torch.equal(round_columns(weight, scale, factor, NumberFormat.INT8, EVEN).codes, whole)


@given(
    st.sampled_from(list(NumberFormat)),
    st.sampled_from(list(Rounding)),
    st.integers(1, 12),
    st.integers(1, 150),
    st.integers(1, 60),
    st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_codes_stay_in_range_and_the_output_error_falls(
    fmt: NumberFormat, rounding: Rounding, rows: int, channels: int, tokens: int, seed: int
) -> None:
    weight, x_hat, token_weight = _problem(rows, channels, tokens, seed)
    hessian = Hessian(x_hat, token_weight)
    scale = weight_scale(weight, fmt)
    quantized = round_columns(weight, scale, hessian.factor(0.01), fmt, rounding)
    assert quantized.codes.float().abs().max() <= fmt.qmax
    assert torch.equal(quantized.scale, scale)
    # What GPTQ minimises greedily may be worse by chance in one row, not by much in all of them.
    ours = hessian.errors(weight - dequantize(quantized)).sum()
    plain = hessian.errors(weight - dequantize(quantize_weight(weight, fmt, rounding))).sum()
    assert ours <= 1.5 * plain
