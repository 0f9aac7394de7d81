"""The choice of the basis in which linears are rounded."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from operator import attrgetter

import pytest
import torch
from torch import Tensor

from vq_algos.layer.inputs import LinearInputs, sampled
from vq_algos.layer.output_error import Energy
from vq_algos.rounding.basis import Basis, is_better, is_better_centered, rotated_basis, rounded
from vq_algos.rounding.rounders import rounder_named, rtn
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import FP8, INT8, W8A8, QuantScheme, Rounding

WIDTH = 64


@pytest.fixture
def make_tokens() -> Callable[[float], Tokens]:
    """Rows of which one channel is `hot` times as large as the others."""

    def make(hot: float) -> Tokens:
        rows = torch.randn(96, WIDTH, generator=torch.Generator().manual_seed(0))
        rows[:, 5] *= hot
        return Tokens(rows.bfloat16(), torch.ones(96), torch.arange(96) % 8)

    return make


@pytest.mark.parametrize("scheme", W8A8, ids=attrgetter("name"))
@pytest.mark.parametrize("rotation", [1, 16])
def test_errors_are_those_of_what_the_runtime_computes(
    make_tokens: Callable[[float], Tokens], scheme: QuantScheme, rotation: int
) -> None:
    tokens, ones = make_tokens(20), torch.ones(WIDTH)
    weight = torch.randn(24, WIDTH, generator=torch.Generator().manual_seed(1))
    part = sampled(tokens, ones, scheme.activation, rotation)
    basis = rotated_basis([weight], LinearInputs(part, part), rotation)
    (error,) = basis.errors(rtn.quantize(basis.weights, None, scheme, Rounding.NEAREST_EVEN))
    quantized = quantize_weight(rotate(weight, rotation), scheme.weight)._replace(rotation=rotation)
    output = w8a8_linear(tokens.rows, quantized, None, scheme.activation).double()
    expected = (tokens.rows.double() @ weight.double().T - output).square().sum(dim=1)
    assert error.total == pytest.approx(float(expected.sum()), rel=1e-3)
    assert error.buckets == pytest.approx([float(expected[bucket::8].sum()) for bucket in range(8)], rel=1e-3)


@pytest.mark.parametrize(
    ("scheme", "hot", "better"),
    [(INT8, 50, True), (FP8, 50, False), (FP8, 1, False)],
)
def test_a_rotation_helps_int8_against_outliers_and_harms_fp8(
    make_tokens: Callable[[float], Tokens], scheme: QuantScheme, hot: float, better: bool
) -> None:
    tokens, ones = make_tokens(hot), torch.ones(WIDTH)
    weight = torch.randn(24, WIDTH, generator=torch.Generator().manual_seed(1))
    parts = {rotation: sampled(tokens, ones, scheme.activation, rotation) for rotation in (1, 64)}
    bases = [rotated_basis([weight], LinearInputs(part, part), rotation) for rotation, part in parts.items()]
    gptq, nearest = rounder_named("gptq"), Rounding.NEAREST_EVEN
    chosen, (one,), errors = rounded("auto", lambda group, _: bases[group != 1], 64, None, gptq, scheme, nearest)
    assert chosen is bases[int(better)]
    (expected,) = gptq.quantize(chosen.weights, chosen.inputs, scheme, nearest)
    assert torch.equal(one.quantized.codes, expected.quantized.codes)
    assert errors == bases[0].errors(rtn.quantize([weight], None, scheme, nearest))


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        ([(3, 1, 2)], [(4, 2, 2)], True),
        ([(3, 1, 2)], [(3, 1, 2)], False),
        ([(3, 1.01, 2)], [(4, 1, 3)], False),  # a bucket pays beside rounding to nearest
        ([(3, 1, 2), (5, 2, 3)], [(9, 4, 5), (4, 2, 2)], False),  # one linear pays
    ],
)
def test_no_linear_and_no_bucket_pays(
    one: list[tuple[float, ...]], other: list[tuple[float, ...]], better: bool
) -> None:
    errors, others = ([Energy(it[0], it[1:]) for it in energies] for energies in (one, other))
    nearest = [Energy(9, (1, 9)), Energy(9, (9, 9))][: len(one)]
    assert is_better(errors, others, nearest) is better


@pytest.fixture
def basis_of(make_tokens: Callable[[float], Tokens]) -> Callable[..., Basis]:
    """Bases of one linear, whose tokens have a mean where they are rotated by `with_mean`, and none elsewhere."""
    tokens, ones = make_tokens(1), torch.ones(WIDTH)
    weight = torch.randn(24, WIDTH, generator=torch.Generator().manual_seed(1))

    def basis(with_mean: Collection[int], rotation: int, mean: Tensor | None) -> Basis:
        rows = tokens.rows + (3.0 if rotation in with_mean else 0.0)
        part = sampled(replace(tokens, rows=rows), ones, INT8.activation, rotation, mean)
        return rotated_basis([weight], LinearInputs(part, part), rotation, mean)

    return basis


HOW = (("none", {1}), ("all", {64}), ("auto", {1, 64}))


@pytest.mark.parametrize(("how", "chosen_from"), HOW)
@pytest.mark.parametrize("with_mean", [{1}, {64}, {1, 64}, set()], ids=str)
def test_a_mean_is_better_where_it_is_in_every_basis_that_may_be_chosen(
    basis_of: Callable[..., Basis], how: str, chosen_from: set[int], with_mean: set[int]
) -> None:
    mean = torch.full((WIDTH,), 3.0)
    found = is_better_centered(how, partial(basis_of, with_mean), 64, mean, INT8, Rounding.NEAREST_EVEN)
    assert found == (chosen_from <= with_mean)


@pytest.mark.parametrize(("how", "chosen_from"), HOW)
def test_a_mean_that_was_decided_is_subtracted_though_it_harms(
    basis_of: Callable[..., Basis], how: str, chosen_from: set[int]
) -> None:
    mean, nearest = torch.full((WIDTH,), 3.0), Rounding.NEAREST_EVEN
    arguments = (how, partial(basis_of, ()), 64, mean, rounder_named("rtn"), INT8, nearest)
    basis, _, errors = rounded(*arguments, decided=True)
    assert basis.rotation in chosen_from
    assert basis.mean is mean
    other, _, expected = rounded(*arguments)
    assert other.mean is None
    assert errors == expected
