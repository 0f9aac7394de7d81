"""What every rounder promises, whatever it computes."""

from collections.abc import Callable
from operator import attrgetter
from typing import cast

import pytest
import torch
from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.rounding import rounders
from vq_algos.rounding.rounders import Rounder, rounder_named
from vq_core.discover import plugin_names
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.quantize import dequantize, snr_db
from vq_core.numerics.scheme import INT8, SCHEMES, NumberFormat, QuantScheme, Rounding

MakeInputs = Callable[..., LinearInputs]

NAMES = plugin_names(rounders.__name__)
CODE_DTYPES = {NumberFormat.INT8: torch.int8, NumberFormat.FP8_E4M3: torch.float8_e4m3fn}
ROWS = (24, 7)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return cast(str, request.param)


@pytest.fixture
def rounder(name: str) -> Rounder:
    return rounder_named(name)


@pytest.fixture
def weights() -> list[Tensor]:
    """Two linears `[24, 64]` and `[7, 64]`; in the first a row of zeros, one below the scale's floor, an outlier."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(rows, 64, generator=generator) for rows in ROWS)
    first[3] = 0
    first[4] *= 1e-9
    first[5, 6] = 1000
    return [first, second]


@pytest.fixture
def inputs(make_inputs: MakeInputs) -> LinearInputs:
    return make_inputs(64)


def test_the_known_rounders_are_found() -> None:
    assert {"rtn", "clip", "gptq", "auto"} <= set(NAMES)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=attrgetter("name"))
def test_codes_and_scales_have_the_promised_form(
    rounder: Rounder, weights: list[Tensor], inputs: LinearInputs, scheme: QuantScheme, rounding: Rounding
) -> None:
    rounded = rounder.quantize(weights, inputs, scheme, rounding)
    assert len(rounded) == len(weights)
    for weight, one in zip(weights, rounded, strict=True):
        codes, scale = one.quantized.codes, one.quantized.scale
        assert codes.dtype == CODE_DTYPES[scheme.weight]
        assert codes.shape == weight.shape
        assert codes.is_contiguous()
        assert codes.float().abs().max() <= scheme.weight.qmax
        assert scale.dtype == torch.float32
        assert scale.shape == (len(weight), 1)
        assert torch.all(torch.isfinite(scale) & (scale > 0) & is_bf16(scale))
    assert torch.all(rounded[0].quantized.codes.float()[3] == 0)
    assert rounded[0].quantized.scale[3] == 1


def test_it_says_what_it_did(rounder: Rounder, name: str, weights: list[Tensor], inputs: LinearInputs) -> None:
    for one in rounder.quantize(weights, inputs, INT8, Rounding.NEAREST_EVEN):
        assert one.decision["method"] in NAMES if name == "auto" else one.decision["method"] == name
        assert all(isinstance(value, str | float) for value in one.decision.values())


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=attrgetter("name"))
def test_the_output_comes_close_to_plain_rounding_or_beats_it(
    rounder: Rounder, weights: list[Tensor], inputs: LinearInputs, scheme: QuantScheme
) -> None:
    for weight, one in zip(weights, rounder.quantize(weights, inputs, scheme, Rounding.NEAREST_EVEN), strict=True):
        exact = inputs.held_out.x @ weight.T
        ours, plain = (
            snr_db(exact, inputs.held_out.x_hat @ dequantize(quantized).T)
            for quantized in (one.quantized, quantize_to(scheme, weight))
        )
        assert ours > plain - 1


def test_weights_and_tokens_are_left_as_they_were(
    rounder: Rounder, weights: list[Tensor], inputs: LinearInputs
) -> None:
    sampled = (*vars(inputs.fit).values(), *vars(inputs.held_out).values())
    parts = [*weights, *(part for part in sampled if part is not None)]
    before = [part.clone() for part in parts]
    rounder.quantize(weights, inputs, INT8, Rounding.NEAREST_EVEN)
    assert all(torch.equal(part, old) for part, old in zip(parts, before, strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if not rounder_named(name).NEEDS_TOKENS])
def test_a_rounder_that_needs_no_tokens_takes_none(rounder: Rounder, weights: list[Tensor]) -> None:
    assert len(rounder.quantize(weights, None, INT8, Rounding.NEAREST_EVEN)) == len(weights)
