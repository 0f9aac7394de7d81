import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_core.numerics import grouped
from vq_core.numerics.grouped import LEVELS, Packed, nearest_codes, nearest_level, pack, quantize_grouped, unpack
from vq_core.numerics.quantize import Groups, Quantized, dequantize, quantize_weight, snr_db
from vq_core.numerics.scheme import NumberFormat

BITS = sorted(LEVELS)


def _random(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def _values(relative: float, bits: int) -> list[float]:
    """Every value that a group of this scale decodes to, by Python's own arithmetic; round() goes half to even."""
    products = (float(torch.tensor(level) * torch.tensor(relative)) for level in LEVELS[bits])
    return [max(-127, min(127, round(product))) for product in products]


@given(st.sampled_from(BITS), st.integers(0, 126), st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_the_nearest_value_is_taken_at_every_scale(bits: int, scale_code: int, wanted: list[float]) -> None:
    relative = float(torch.tensor([scale_code], dtype=torch.uint8).view(torch.float8_e4m3fn).float()) or 2.0**-9
    x = torch.tensor(wanted)
    found = nearest_level(x, torch.full_like(x, relative), bits).tolist()
    for value, ours in zip(wanted, found, strict=True):
        least = min(abs(value - possible) for possible in _values(relative, bits))
        assert ours in _values(relative, bits)
        assert abs(value - ours) == pytest.approx(least, abs=2e-5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e4])
def test_packed_codes_decode_to_the_same_weight(bits: int, spread: float) -> None:
    weight = _random(20, 96) * torch.logspace(0, -4, 96) * spread
    weight[3] = 0
    weight[4, :32] = 0
    quantized = quantize_grouped(weight, bits)
    packed = pack(quantized._replace(rotation=16))
    assert packed.bits == bits
    assert packed.codes.dtype == torch.int8
    assert packed.codes.shape == (20, 96 * bits // 8)
    assert packed.group_scale.dtype == torch.float8_e4m3fn
    assert packed.group_scale.shape == (20, 6)
    again = unpack(packed)
    assert again.rotation == 16
    assert torch.equal(again.codes, quantized.codes)
    assert torch.equal(again.scale, quantized.scale)
    assert again.groups is not None
    assert again.groups.bits == bits
    assert pack(again).codes is packed.codes  # not found once more
    anew = again._replace(groups=Groups(packed.group_scale, bits))
    assert torch.equal(unpack(pack(anew)).codes, quantized.codes)
    assert not again.codes[3].any()
    assert not again.codes[4, :32].any()


def test_every_byte_is_read_as_it_is_documented() -> None:
    # Channel k of 4 bits has code k, of 6 bits code 1 + k; at a scale of 1 6-bit codes decode to their level.
    codes = list(range(16))
    low = [even | odd << 4 for even, odd in zip(codes[::2], codes[1::2], strict=True)]
    one = torch.full((1, 1), 100.0).to(torch.float8_e4m3fn)
    row = Packed(torch.tensor([low], dtype=torch.uint8).view(torch.int8), one, torch.ones(1, 1), 16)
    scale = float(one.float())
    assert unpack(row).codes.tolist() == [[round(level * scale) for level in LEVELS[4]]]
    codes = [1 + 2 * k for k in range(32)]
    low = [even & 15 | (odd & 15) << 4 for even, odd in zip(codes[::2], codes[1::2], strict=True)]
    high = [sum((codes[4 * k + i] >> 4) << 2 * i for i in range(4)) for k in range(8)]
    bytes_ = torch.tensor([low + high], dtype=torch.uint8).view(torch.int8)
    row = Packed(bytes_, torch.ones(1, 2).to(torch.float8_e4m3fn), torch.ones(1, 1), 16)
    assert unpack(row).codes.tolist() == [[code - 32 for code in codes]]


@pytest.mark.parametrize(("bits", "least"), [(4, 19.5), (6, 31.0)])
def test_normal_weights_lose_as_much_as_these_bits_cost(bits: int, least: float) -> None:
    weight = _random(256, 512)
    assert least < snr_db(weight, dequantize(quantize_grouped(weight, bits))) < least + 3
    assert snr_db(weight, dequantize(quantize_weight(weight, NumberFormat.INT8))) > least + 5


@pytest.mark.parametrize("bits", BITS)
def test_parts_of_rows_give_the_same(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = _random(9, 64).bfloat16()
    whole = quantize_grouped(weight, bits)
    monkeypatch.setattr(grouped, "ELEMENTS_AT_ONCE", 130)
    parts = quantize_grouped(weight, bits)
    assert torch.equal(whole.codes, parts.codes)
    assert torch.equal(pack(whole).codes, pack(parts).codes)
    assert torch.equal(unpack(pack(parts)).codes, whole.codes)


@pytest.mark.parametrize("bits", BITS)
def test_codes_off_the_grid_cannot_be_packed(bits: int) -> None:
    scale = torch.full((1, 2), 32.0).to(torch.float8_e4m3fn)
    quantized = nearest_codes(_random(1, 32), torch.ones(1, 1), Groups(scale, bits))
    quantized.codes[0, 5] = 7  # between 2 and 5 at 4 bits, between 0 and 32 at 6
    with pytest.raises(ValueError, match=f"{bits} bits do not decode to"):
        pack(quantized)
    with pytest.raises(ValueError, match="8 bits are not packed"):
        pack(Quantized(quantized.codes, quantized.scale))


def test_what_rows_fit() -> None:
    assert [grouped.fits(4, width) for width in (16, 40, 5120)] == [True, False, True]
    assert [grouped.fits(6, width) for width in (16, 96, 8960)] == [False, True, True]
    assert grouped.packed_width(6, 64) == 48


def test_a_weight_that_is_not_finite_has_no_finite_scale() -> None:
    weight = _random(2, 32)
    weight[1, 3] = math.nan
    assert not torch.isfinite(quantize_grouped(weight, 4).scale[1]).any()
