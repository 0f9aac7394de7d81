"""GPTQ as a rounder: what it gains, how the damping is chosen, and inputs that would break it."""

from collections.abc import Callable
from operator import attrgetter

import pytest
import torch
from torch import Tensor

from vq_algos.layer.hessian import Hessian
from vq_algos.layer.inputs import LinearInputs, Sampled
from vq_algos.layer.output_error import HeldOutError
from vq_algos.rounding.column_rounding import round_columns
from vq_algos.rounding.rounders.gptq import DAMPS, quantize
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.quantize import Quantized, dequantize, snr_db, weight_scale
from vq_core.numerics.scheme import INT8, SCHEMES, W8A8, NumberFormat, QuantScheme, Rounding

MakeInputs = Callable[..., LinearInputs]
EVEN = Rounding.NEAREST_EVEN


@pytest.fixture
def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 64, generator=generator) for rows in (48, 20)]


def _unquantized(inputs: LinearInputs) -> LinearInputs:
    """The same inputs with exact activations, so that the weights' error is seen alone."""
    return LinearInputs(*(Sampled(part.x, part.x, part.weight, part.bucket) for part in (inputs.fit, inputs.held_out)))


def _output_snr(weight: Tensor, quantized: Quantized, tokens: Sampled) -> float:
    return snr_db(tokens.x @ weight.T, tokens.x_hat @ dequantize(quantized).T)


@pytest.mark.parametrize("scheme", W8A8, ids=attrgetter("name"))
def test_the_output_is_a_decibel_closer_than_plain_rounding(
    scheme: QuantScheme, weights: list[Tensor], make_inputs: MakeInputs
) -> None:
    inputs = _unquantized(make_inputs(64))
    for weight, one in zip(weights, quantize(weights, inputs, scheme, EVEN), strict=True):
        plain = _output_snr(weight, quantize_to(scheme, weight), inputs.held_out)
        assert _output_snr(weight, one.quantized, inputs.held_out) > plain + 1


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=attrgetter("name"))
def test_linears_that_share_an_input_are_rounded_as_each_alone(
    scheme: QuantScheme, rounding: Rounding, weights: list[Tensor], make_inputs: MakeInputs
) -> None:
    inputs = make_inputs(64)
    together = quantize(weights, inputs, scheme, rounding)
    alone = [quantize([weight], inputs, scheme, rounding)[0] for weight in weights]
    for weight, one, other in zip(weights, together, alone, strict=True):
        assert torch.equal(one.quantized.codes.float(), other.quantized.codes.float())
        assert torch.equal(one.quantized.scale, weight_scale(weight, scheme.weight))
        assert one.decision == other.decision


def test_every_linear_keeps_the_damping_that_is_best_on_held_out_tokens(
    weights: list[Tensor], make_inputs: MakeInputs
) -> None:
    inputs = make_inputs(64, fit=40)
    for weight, one in zip(weights, quantize(weights, inputs, INT8, EVEN), strict=True):
        scale, judge = weight_scale(weight, NumberFormat.INT8), HeldOutError(weight, inputs.held_out)
        errors = {}
        for damp in DAMPS:
            factor = Hessian(inputs.fit.x_hat, inputs.fit.weight).factor(damp)
            errors[damp] = judge.error(dequantize(round_columns(weight, scale, factor, NumberFormat.INT8, EVEN))).total
        assert one.decision == {"method": "gptq", "damp": min(errors, key=errors.__getitem__)}
