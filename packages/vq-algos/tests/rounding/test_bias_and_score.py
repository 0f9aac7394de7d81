"""What is recorded of a linear, in fp64, and when its bias is corrected."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_algos.layer.inputs import LinearInputs, Sampled
from vq_algos.layer.output_error import HeldOutError
from vq_algos.rounding.bias_and_score import Scored, bias_shift, correct_and_score
from vq_core.numerics.quantize import dequantize, quantize_weight
from vq_core.numerics.scheme import NumberFormat
from vq_core.sampling.schedule import BUCKETS

MakeInputs = Callable[..., LinearInputs]
RECORDED_DB = 1e-3


@pytest.fixture
def inputs(make_inputs: MakeInputs) -> LinearInputs:
    """Inputs whose mean is not zero, so that an error of the weight has a mean, too."""
    made = make_inputs(48)
    return LinearInputs(
        *(Sampled(part.x + 1, part.x_hat + 1, part.weight, part.bucket) for part in (made.fit, made.held_out))
    )


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(20, 48, generator=torch.Generator().manual_seed(3))


def _score(weight: Tensor, dequantized: Tensor, inputs: LinearInputs, *, correct_bias: bool = True) -> Scored:
    rtn = HeldOutError(weight, inputs.held_out).error(_rounded(weight))
    return correct_and_score(weight, dequantized, inputs, rtn, correct_bias=correct_bias)


def _rounded(weight: Tensor) -> Tensor:
    return dequantize(quantize_weight(weight, NumberFormat.INT8))


def _snr(exact: Tensor, output: Tensor, tokens: Sampled, bucket: int | None = None) -> float:
    w = tokens.weight.double() if bucket is None else tokens.weight.double() * (tokens.bucket == bucket)
    signal, noise = (w @ part.square().sum(dim=1) for part in (exact, exact - output))
    return float(10 * torch.log10(signal / noise))


def test_every_figure_is_what_it_says(weight: Tensor, inputs: LinearInputs) -> None:
    coarse = _rounded(weight) + 0.05
    scored = _score(weight, coarse, inputs)
    assert scored.shift is not None
    held_out = inputs.held_out
    x, x_hat, w, w_hat = (part.double() for part in (held_out.x, held_out.x_hat, weight, coarse))
    exact, output = x @ w.T, x_hat @ w_hat.T + scored.shift.double()
    figures = scored.figures
    expected = {
        "output_snr_db": output,
        "rtn_output_snr_db": x_hat @ _rounded(weight).double().T,
        "activation_snr_db": x_hat @ w.T,
        "weight_only_snr_db": x @ w_hat.T,
    }
    for key, one in expected.items():
        assert figures[key] == pytest.approx(_snr(exact, one, held_out), abs=RECORDED_DB), key
    for bucket in range(BUCKETS):
        if bucket < 2:  # the fixture's tokens begin at the third
            assert figures["bucket_snr_db"][bucket] is None
        else:
            expected_db = _snr(exact, output, held_out, bucket)
            assert figures["bucket_snr_db"][bucket] == pytest.approx(expected_db, abs=RECORDED_DB)
    assert figures["bias_corrected"] is True


def test_a_correction_that_pays_is_the_one_of_the_fit_tokens(weight: Tensor, inputs: LinearInputs) -> None:
    shifted = _rounded(weight) + 0.05
    scored = _score(weight, shifted, inputs)
    assert scored.shift is not None
    assert torch.equal(scored.shift, bias_shift(weight, shifted, inputs.fit))
    uncorrected = _score(weight, shifted, inputs, correct_bias=False)
    assert scored.figures["output_snr_db"] > uncorrected.figures["output_snr_db"]
    assert uncorrected.shift is None
    assert uncorrected.figures["bias_corrected"] is False


def test_a_correction_that_other_prompts_contradict_is_dropped(weight: Tensor, inputs: LinearInputs) -> None:
    fit = inputs.fit
    opposite = LinearInputs(Sampled(-fit.x, -fit.x_hat, fit.weight, fit.bucket), inputs.held_out)
    shifted = _rounded(weight) + 0.05
    assert _score(weight, shifted, opposite).shift is None


def test_a_correction_that_one_bucket_pays_for_is_dropped(weight: Tensor, inputs: LinearInputs) -> None:
    # Bucket 3 is on average where all others are not: what helps them moves it further away.
    held_out = inputs.held_out
    sign = torch.where(held_out.bucket == 3, -1.0, 1.0).unsqueeze(1)
    turned = LinearInputs(
        inputs.fit, Sampled(held_out.x * sign, held_out.x_hat * sign, held_out.weight, held_out.bucket)
    )
    shifted = _rounded(weight) + 0.05
    judged_by_total = LinearInputs(
        turned.fit, Sampled(*list(vars(turned.held_out).values())[:3], torch.full_like(held_out.bucket, -1))
    )
    assert _score(weight, shifted, judged_by_total).shift is not None
    assert _score(weight, shifted, turned).shift is None


def test_an_output_without_error_has_no_figures(inputs: LinearInputs) -> None:
    zero = torch.zeros(4, 48)
    figures = _score(zero, zero, inputs).figures
    assert figures.pop("bias_corrected") is False
    assert figures.pop("bucket_snr_db") == [None] * BUCKETS
    assert set(figures.values()) == {None}


@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_shift_is_the_weighted_mean_of_the_output_errors(tokens: int, channels: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(tokens, channels, generator=generator) for _ in range(2))
    weight, other = (torch.randn(rows, channels, generator=generator) for _ in range(2))
    token_weight = torch.rand(tokens, generator=generator) + 0.1
    fit = Sampled(x, x + 0.01 * noise, token_weight, torch.zeros(tokens, dtype=torch.int64))
    dequantized = weight + 0.01 * other
    errors = fit.x.double() @ weight.double().T - fit.x_hat.double() @ dequantized.double().T
    w = token_weight.double().unsqueeze(1)
    expected = ((w * errors).sum(dim=0) / w.sum()).float()
    torch.testing.assert_close(bias_shift(weight, dequantized, fit), expected, rtol=1e-3, atol=1e-6)
