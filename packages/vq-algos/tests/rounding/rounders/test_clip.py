"""The chosen factors against a search row by row in fp64."""

from collections.abc import Callable
from operator import attrgetter

import pytest
import torch
from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.rounding.rounders import clip
from vq_core.numerics.grouped import group_scale, nearest_codes, quantize_to
from vq_core.numerics.quantize import Groups, dequantize, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import INT8, W4A8, W6A8, W8A8, NumberFormat, QuantScheme, Rounding

MakeInputs = Callable[..., LinearInputs]


@pytest.fixture
def weight() -> Tensor:
    """Rows with one element far above the rest, which is where clipping pays; the channel of it hardly speaks."""
    weight = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    weight[:, 7] = torch.linspace(1, 30, 12)
    return weight


def _error(row: Tensor, rounded: Tensor, inputs: LinearInputs) -> float:
    fit = inputs.fit
    return float((fit.weight.double() * (fit.x_hat.double() @ (row - rounded).double()).square()).sum())


def _quietened(inputs: LinearInputs) -> LinearInputs:
    for part in (inputs.fit.x, inputs.fit.x_hat):
        part[:, 7] *= 1e-3
    return inputs


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scheme", W8A8, ids=attrgetter("name"))
@pytest.mark.parametrize("fit", [24, 200])  # fewer tokens than channels, and more
def test_every_row_has_the_scale_of_least_output_error(
    fit: int, scheme: QuantScheme, rounding: Rounding, weight: Tensor, make_inputs: MakeInputs
) -> None:
    inputs = _quietened(make_inputs(40, fit=fit, fmt=scheme.activation))
    (one,) = clip.quantize([weight], inputs, scheme, rounding)
    shrunk = 0
    for row, ours, scale in zip(weight, dequantize(one.quantized), one.quantized.scale, strict=True):
        errors = []
        for p in clip.FACTORS:
            s = weight_scale(row.abs().max().reshape(1, 1) * p, scheme.weight)[0]
            errors.append(_error(row, round_to_codes(row / s, scheme.weight, rounding).float() * s, inputs))
        assert _error(row, ours, inputs) == pytest.approx(min(errors), rel=1e-4)
        shrunk += bool(scale < weight_scale(row.unsqueeze(0), scheme.weight)[0])
    if scheme is INT8:
        assert shrunk > 6


def test_where_nothing_is_gained_the_scale_is_that_of_the_absmax(make_inputs: MakeInputs) -> None:
    weight = torch.arange(-127, 128).float().repeat(2, 1)  # codes hold it exactly
    (one,) = clip.quantize([weight], make_inputs(255), INT8, Rounding.NEAREST_EVEN)
    assert torch.equal(one.quantized.codes, quantize_to(INT8, weight).codes)
    assert one.decision["clip"] == 1


def test_the_decision_has_the_median_of_the_factors(weight: Tensor, make_inputs: MakeInputs) -> None:
    inputs = _quietened(make_inputs(40))
    (one,) = clip.quantize([weight], inputs, INT8, Rounding.NEAREST_EVEN)
    ratio = (one.quantized.scale / weight_scale(weight, NumberFormat.INT8)).median()
    assert one.decision["clip"] == pytest.approx(float(ratio), abs=0.01)
    assert one.decision["clip"] < 1
    assert (clip.FACTORS[0], clip.FACTORS[-1]) == (1, 0.6)


@pytest.mark.parametrize("scheme", [W6A8, W4A8], ids=attrgetter("name"))
def test_every_group_gets_the_scale_with_the_least_error(
    scheme: QuantScheme, make_inputs: MakeInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(7, 64, generator=torch.Generator().manual_seed(0)).pow(3)
    monkeypatch.setattr(clip, "GROUPED_ROWS", 3)
    (one,) = clip.quantize([weight], make_inputs(64), scheme, Rounding.NEAREST_EVEN)
    scale, groups = weight_scale(weight, NumberFormat.INT8), one.quantized.groups
    assert torch.equal(one.quantized.scale, scale)
    assert groups is not None
    found = (weight - dequantize(one.quantized)).square().unflatten(1, (-1, 16)).sum(-1)
    factors = [1.1 - step / 20 for step in range(11)]
    for factor in factors:
        other = nearest_codes(weight, scale, Groups(group_scale(weight, scale, scheme.bits, factor), scheme.bits))
        assert (found <= (weight - dequantize(other)).square().unflatten(1, (-1, 16)).sum(-1)).all()
    assert 0.6 <= float(one.decision["clip"]) <= 1.1


def test_rows_are_searched_in_parts_to_the_same_codes(
    weight: Tensor, make_inputs: MakeInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _quietened(make_inputs(40))
    (whole,) = clip.quantize([weight], inputs, INT8, Rounding.NEAREST_EVEN)
    monkeypatch.setattr(clip, "ROWS_AT_ONCE", 5)
    (parts,) = clip.quantize([weight], inputs, INT8, Rounding.NEAREST_EVEN)
    assert torch.equal(whole.quantized.codes, parts.quantized.codes)
    assert torch.equal(whole.quantized.scale, parts.quantized.scale)
