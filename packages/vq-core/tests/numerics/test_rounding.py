"""Codes against a search over all of them, and QPyTorch's rounding against its table and, where installed, itself."""

import importlib.util
import math
import struct
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.numerics import rounding
from vq_core.numerics.rounding import CODE_DTYPE, emulate_qtorch_e4m3, round_quotient_into, round_to_codes
from vq_core.numerics.scheme import NumberFormat, Rounding

numbers = st.floats(width=32, allow_nan=False)
in_range = st.floats(min_value=-500, max_value=500, width=32)


def e4m3_value(code: int) -> float:
    """The value of an E4M3 byte by its definition: sign, 4 bits of exponent with bias 7, 3 bits of mantissa."""
    sign, exponent, mantissa = (-1) ** (code >> 7), code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


POSITIVE_E4M3 = [e4m3_value(code) for code in range(0x7F)]


def nearest_int8(x: float) -> int:
    return (
        min(range(-127, 128), key=lambda code: (abs(code - x), code % 2))
        if abs(x) < 127
        else int(math.copysign(127, x))
    )


def nearest_e4m3(x: float) -> float:
    """The nearest E4M3 value, the one with an even mantissa in a tie."""
    magnitude = min(abs(x), 448.0)
    code = min(range(0x7F), key=lambda code: (abs(POSITIVE_E4M3[code] - magnitude), code % 2))
    return math.copysign(POSITIVE_E4M3[code], x)


def codes(values: list[float], fmt: NumberFormat, how: Rounding = Rounding.NEAREST_EVEN) -> list[float]:
    rounded: list[float] = round_to_codes(torch.tensor(values), fmt, how).float().tolist()
    return rounded


@given(st.lists(in_range | numbers, min_size=1, max_size=20))
def test_int8_is_the_nearest_code(values: list[float]) -> None:
    assert codes(values, NumberFormat.INT8) == [nearest_int8(value) for value in values]


@given(st.lists(in_range | numbers | st.floats(-(2.0**-5), 2.0**-5, width=32), min_size=1, max_size=20))
def test_fp8_is_the_nearest_code(values: list[float]) -> None:
    assert codes(values, NumberFormat.FP8_E4M3) == [nearest_e4m3(value) for value in values]


@pytest.mark.parametrize("how", list(Rounding))
@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_rounding_into_rows_of_a_tensor_gives_the_same_codes_and_touches_no_others(
    fmt: NumberFormat, how: Rounding
) -> None:
    # Every tie and the fp32 values on either side of it, of either sign, and the one that is past the last code.
    last = torch.nextafter(torch.tensor(fmt.qmax), torch.tensor(torch.inf)).item()
    ties = torch.arange(254 if fmt is NumberFormat.INT8 else 4 * 448 * 32) / (2 if fmt is NumberFormat.INT8 else 128)
    x = torch.cat([ties, *(ties.nextafter(torch.tensor(side)) for side in (-1e9, 1e9)), torch.tensor([2.0**-10, last])])
    scale = torch.tensor([1.0, 2.0**-7, 3.0, 1e-5]).unsqueeze(1)
    rows = torch.cat([x, -x]) * scale
    codes_of_five = torch.ones(5, rows.shape[1]).to(CODE_DTYPE[fmt])
    round_quotient_into(codes_of_five[:4], rows.clone(), scale, fmt, how)
    assert torch.equal(codes_of_five[:4].view(torch.uint8), round_to_codes(rows / scale, fmt, how).view(torch.uint8))
    assert torch.all(codes_of_five[4].float() == 1)


def test_rounding_leaves_its_input_alone() -> None:
    x = torch.linspace(-500, 500, 1001)
    for fmt in NumberFormat:
        for how in Rounding:
            round_to_codes(x, fmt, how)
    assert torch.equal(x, torch.linspace(-500, 500, 1001))


def test_every_code_rounds_to_itself() -> None:
    assert codes(list(range(-127, 128)), NumberFormat.INT8) == list(range(-127, 128))
    values = [e4m3_value(code) for code in range(256) if not math.isnan(e4m3_value(code))]
    for how in Rounding:
        assert codes(values, NumberFormat.FP8_E4M3, how) == values


def test_int8_ties_go_to_even_and_ends_saturate() -> None:
    assert codes([0.5, 1.5, 2.5, -0.5, -1.5, 126.5], NumberFormat.INT8) == [0, 2, 2, 0, -2, 126]
    assert codes([127.5, 128.0, -128.0, 1e30, -math.inf], NumberFormat.INT8) == [127, 127, -127, 127, -127]


def test_fp8_ties_by_rounding() -> None:
    values = [17.0, 19.0, -17.0, 1.0625, 2.0**-10]
    assert codes(values, NumberFormat.FP8_E4M3) == [16, 20, -16, 1.0, 0]
    assert codes(values, NumberFormat.FP8_E4M3, Rounding.QTORCH) == [18, 20, -18, 1.125, 2.0**-9]


@pytest.mark.parametrize("how", list(Rounding))
def test_fp8_saturates_and_is_never_nan(how: Rounding) -> None:
    values = [448.0, 449.0, 464.0, 480.0, 1e30, math.inf]
    assert codes(values, NumberFormat.FP8_E4M3, how) == [448.0] * 6
    assert codes([-value for value in values], NumberFormat.FP8_E4M3, how) == [-448.0] * 6


def test_int8_is_the_same_in_both_roundings() -> None:
    values = torch.linspace(-130, 130, 4001)
    assert torch.equal(*(round_to_codes(values, NumberFormat.INT8, how) for how in Rounding))


def test_qtorch_midpoints_go_away_from_zero_and_half_of_them_differ() -> None:
    midpoints = [(low + high) / 2 for low, high in pairwise(POSITIVE_E4M3)]
    emulated = emulate_qtorch_e4m3(torch.tensor(midpoints))
    assert emulated.tolist() == POSITIVE_E4M3[1:]
    assert emulate_qtorch_e4m3(-torch.tensor(midpoints)).tolist() == [-value for value in POSITIVE_E4M3[1:]]
    differ = sum(even != away for even, away in zip(map(nearest_e4m3, midpoints), emulated.tolist(), strict=True))
    assert (len(midpoints), differ) == (126, 63)


def test_qtorch_rounds_twice_below_the_smallest_normal() -> None:
    just_below_half = 2.0**-10 * (1 - 2.0**-20)
    assert emulate_qtorch_e4m3(torch.tensor([just_below_half, 0.9 * 2.0**-10])).tolist() == [2.0**-9, 0.0]


def literal_qtorch(x: float) -> float:
    """QPyTorch's `round_bitwise` and the shift around it, one fp32 number at a time."""
    number = np.float32(x)
    shift = np.float32(0 if abs(x) >= 2**-6 else math.copysign(2**-6, x))
    bits = struct.unpack("<I", struct.pack("<f", number + shift))[0]
    bits = (bits + (1 << 19)) & ~((1 << 20) - 1) & 0xFFFFFFFF
    return float(np.float32(struct.unpack("<f", struct.pack("<I", bits))[0]) - shift)


@given(st.lists(st.floats(-448, 448, width=32) | st.floats(-(2.0**-5), 2.0**-5, width=32), min_size=1, max_size=20))
def test_qtorch_follows_its_bit_arithmetic(values: list[float]) -> None:
    assert emulate_qtorch_e4m3(torch.tensor(values)).tolist() == [literal_qtorch(value) for value in values]


def test_qtorch_has_no_negative_zero() -> None:
    assert not emulate_qtorch_e4m3(torch.tensor([-0.0, -1e-9, -1e-40])).signbit().any()


@given(st.lists(st.floats(-448, 448, width=32), min_size=1, max_size=20))
def test_both_roundings_agree_away_from_ties(values: list[float]) -> None:
    for value in values:
        even, away = (codes([value], NumberFormat.FP8_E4M3, how)[0] for how in Rounding)
        # 1e-9 covers the addition of 2⁻⁶ that QPyTorch rounds below the smallest normal value.
        assert even == away or abs(abs(value - even) - abs(value - away)) < 1e-9


def test_qtorch_rounding_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding.importlib.util, "find_spec", lambda name: None)
    assert codes([17.0, 500.0], NumberFormat.FP8_E4M3, Rounding.QTORCH) == [18, 448]


@pytest.mark.skipif(importlib.util.find_spec("qtorch") is None, reason="qtorch is not installed: make test-qtorch")
def test_emulation_equals_the_package() -> None:
    from qtorch.quant import float_quantize

    every_bf16 = torch.arange(-0x8000, 0x8000, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    every_bf16 = every_bf16[every_bf16.abs() <= 448]
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(1_000_000, generator=generator) * torch.tensor([1e-3, 0.1, 1.0, 100.0]).repeat(250_000)
    for values in (every_bf16, random.clamp(-448, 448)):
        package = float_quantize(values.contiguous(), exp=4, man=3, rounding="nearest")
        assert torch.equal(emulate_qtorch_e4m3(values).view(torch.int32), package.view(torch.int32))
