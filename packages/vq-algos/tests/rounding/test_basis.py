"""The choice of the basis in which linears are rounded."""

from collections.abc import Callable
from operator import attrgetter

import pytest
import torch

from vq_algos.layer.inputs import LinearInputs, sampled
from vq_algos.layer.output_error import Energy
from vq_algos.rounding.basis import is_better, rotated_basis, rounded
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
