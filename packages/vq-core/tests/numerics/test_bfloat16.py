import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.numerics.bfloat16 import bf16_ceil, is_bf16, nearest_bf16

positive = st.floats(min_value=2.0**-100, max_value=2.0**100, width=32)


def bf16_above(value: float) -> float:
    """The next bfloat16 value after the positive bfloat16 `value`."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return float(struct.unpack("<f", struct.pack("<I", bits + 0x10000))[0])


@given(positive)
def test_ceil_is_the_smallest_bf16_value_not_below(value: float) -> None:
    rounded = float(bf16_ceil(torch.tensor(value)))
    assert float(torch.tensor(rounded).bfloat16()) == rounded
    assert rounded >= value
    below = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", rounded))[0] - 0x10000))[0]
    assert below < value


def test_ceil_keeps_every_bf16_value() -> None:
    values = torch.arange(0x0080, 0x7F80, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    assert torch.equal(bf16_ceil(values), values)
    assert is_bf16(values).all()


def test_ceil_takes_any_layout() -> None:
    values = torch.rand(5, 7).T + 0.1
    assert torch.equal(bf16_ceil(values), bf16_ceil(values.contiguous()))


@given(positive)
def test_nearest_is_one_of_the_two_neighbours_and_the_closer(value: float) -> None:
    nearest = float(nearest_bf16(torch.tensor(value)))
    above = float(bf16_ceil(torch.tensor(value)))
    assert above in (nearest, bf16_above(nearest))
    assert abs(nearest - value) <= abs(above - value)


@pytest.mark.parametrize(("value", "exact"), [(1.0, True), (1.0078125, True), (1.00390625, False), (-3.0, True)])
def test_is_bf16(value: float, exact: bool) -> None:
    assert bool(is_bf16(torch.tensor(value))) is exact
