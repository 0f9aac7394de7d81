"""Output errors against the literal sums, and the guard at its borders."""

import math
from collections.abc import Callable

import pytest
import torch

from vq_algos.layer.inputs import LinearInputs, Sampled
from vq_algos.layer.output_error import BUCKET_TOLERANCE, Energy, HeldOutError, bucket_snr_db, snr_db, spares_buckets
from vq_core.sampling.schedule import BUCKETS

MakeInputs = Callable[..., LinearInputs]


@pytest.fixture
def tokens(make_inputs: MakeInputs) -> Sampled:
    return make_inputs(12).held_out


def _literal(y: torch.Tensor, tokens: Sampled) -> Energy:
    buckets = [0.0] * BUCKETS
    total = 0.0
    for row, w, bucket in zip(y.double(), tokens.weight.tolist(), tokens.bucket.tolist(), strict=True):
        energy = w * float(row @ row)
        total += energy
        if bucket >= 0:
            buckets[bucket] += energy
    return Energy(total, tuple(buckets))


def _assert_same(one: Energy, other: Energy) -> None:
    assert one.total == pytest.approx(other.total, rel=1e-4)
    assert one.buckets == pytest.approx(other.buckets, rel=1e-4)


def test_errors_are_the_literal_sums(tokens: Sampled) -> None:
    weight, rounded, shift = torch.randn(5, 12), torch.randn(5, 12), torch.randn(5)
    judge = HeldOutError(weight, tokens)
    exact = tokens.x.double() @ weight.double().T
    y_hat = tokens.x_hat.double() @ rounded.double().T
    _assert_same(judge.signal, _literal(exact, tokens))
    _assert_same(judge.error(rounded), _literal(y_hat - exact, tokens))
    _assert_same(judge.error(rounded, shift), _literal(y_hat + shift - exact, tokens))
    _assert_same(judge.weight_error(rounded), _literal(tokens.x.double() @ rounded.double().T - exact, tokens))
    _assert_same(judge.activation_error(), _literal((tokens.x_hat - tokens.x).double() @ weight.double().T, tokens))


BEFORE = Energy(9.5, (5.0, 4.5))


@pytest.mark.parametrize(
    ("buckets", "before", "spared"),
    [
        ((4.0, 6.0), None, True),
        ((4.0 * BUCKET_TOLERANCE, 4.9), None, True),
        ((4.0 * BUCKET_TOLERANCE + 1e-9, 4.9), None, False),
        ((5.0, 4.0), BEFORE, True),  # was bad before, and may stay so
        ((5.1, 3.9), BEFORE, False),
    ],
)
def test_no_bucket_may_get_worse_than_the_tolerance(
    buckets: tuple[float, float], before: Energy | None, spared: bool
) -> None:
    assert spares_buckets(Energy(9.0, buckets), Energy(10.0, (4.0, 6.0)), before) is spared


def test_two_stages_may_use_a_tenth_of_a_decibel_together() -> None:
    assert 10 * math.log10(BUCKET_TOLERANCE**2) == pytest.approx(0.086, abs=1e-3)


def test_snr_in_decibels() -> None:
    assert snr_db(1000.0, 1.0) == 30.0
    assert snr_db(1.0, 0.0) is None
    assert snr_db(0.0, 1.0) is None
    assert bucket_snr_db(Energy(5.0, (100.0, 0.0)), Energy(1.0, (1.0, 0.0))) == [20.0, None]
