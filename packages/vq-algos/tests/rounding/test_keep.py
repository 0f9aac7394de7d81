"""Which linears stay in full precision, by what was measured."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vq_algos.rounding.keep import Shared, kept_linears, shared_inputs
from vq_core.families.wan import topology

SIZES = {"q": 100, "up": 300, "down": 300}


def shared(name: str, snr: float | None, size: int | None = None) -> Shared:
    return Shared("t", (name,), size or SIZES[name], 0.0 if snr is None else 10 ** (-snr / 10), snr)


def test_linears_that_read_one_input_in_one_block_stand_together(i2v_config: dict[str, Any]) -> None:
    model = topology(i2v_config)
    decisions: dict[str, dict[str, float | None]] = {linear.name: {"output_snr_db": 30.0} for linear in model.linears}
    decisions["blocks.1.attn1.to_k"]["output_snr_db"] = 20.0
    decisions["blocks.1.ffn.net.2"]["output_snr_db"] = None
    found = {it.linears: it for it in shared_inputs("t", model, decisions, "int8")}
    assert sorted(name for names in found for name in names) == sorted(decisions)
    qkv = found[tuple(f"blocks.1.attn1.to_{part}" for part in "qkv")]
    assert (qkv.component, qkv.size, qkv.snr_db) == ("t", 3 * 32 * 32, 20.0)
    assert math.isclose(qkv.noise, 0.01 + 2 * 0.001)
    text = ("blocks.1.attn2.to_k", "blocks.1.attn2.to_v")
    assert text in found
    down = found[("blocks.1.ffn.net.2",)]
    assert (down.size, down.noise, down.snr_db) == (32 * 80, 0.0, None)
    four_bits = {it.linears: it.size for it in shared_inputs("t", model, decisions, "w4a8")}
    assert four_bits[qkv.linears] == 3 * 32 * 32 * (2 - 9 / 16)
    named = shared_inputs("t", model, {name: {} for name in decisions}, "int8", ["blocks.1.attn1.to_v"])
    assert [it.linears for it in named if it.named] == [qkv.linears]
    assert {it.snr_db for it in named} == {None}


@pytest.mark.parametrize(
    ("size", "min_snr", "kept"),
    [
        (700, None, "down q up"),
        (699, None, "down q"),
        (399, None, "down"),
        (299, None, "q"),  # the next worst fits
        (100, None, "q"),
        (99, None, ""),
        (None, 25.0, "down"),
        (None, 31.0, "down q up"),
        (1000, 25.0, "down"),
        (299, 25.0, ""),
        (None, 20.0, ""),
    ],
)
def test_most_noise_per_byte_first(size: int | None, min_snr: float | None, kept: str) -> None:
    # Noise per byte: 10, 9.4 and 33 times 10⁻⁶.
    inputs = [shared("q", 30.0), shared("up", 25.5), shared("down", 20.0)]
    assert " ".join(kept_linears(inputs, size=size, min_snr_db=min_snr).get("t", ())) == kept


def test_components_share_the_bytes() -> None:
    high, low = (Shared(name, ("q",), 100, noise, 30.0) for name, noise in (("high", 0.001), ("low", 0.002)))
    assert kept_linears([high, low], size=199, min_snr_db=None) == {"low": ("q",)}
    assert kept_linears([high, low], size=200, min_snr_db=None) == {"low": ("q",), "high": ("q",)}


def test_named_ones_come_first_and_cost_nothing_of_the_size() -> None:
    named = Shared("t", ("n",), 10**6, 0.0, None, named=True)
    inputs = [shared("q", 30.0), named, shared("down", 20.0)]
    assert kept_linears(inputs, size=100, min_snr_db=None) == {"t": ("n", "q")}
    assert kept_linears(inputs, size=0, min_snr_db=None) == {"t": ("n",)}


def test_what_has_no_noise_stays_quantized() -> None:
    assert kept_linears([shared("q", None)], size=10**9, min_snr_db=None) == {}


@given(
    st.lists(st.tuples(st.floats(0, 60), st.integers(1, 1000)), max_size=12),
    st.integers(0, 4000),
    st.one_of(st.none(), st.floats(0, 60)),
)
def test_never_more_bytes_and_none_that_is_good_enough(
    units: list[tuple[float, int]], size: int, min_snr: float | None
) -> None:
    inputs = [shared(str(index), snr, bytes_) for index, (snr, bytes_) in enumerate(units)]
    kept = set(kept_linears(inputs, size=size, min_snr_db=min_snr).get("t", ()))
    taken = [it for it in inputs if it.linears[0] in kept]
    assert sum(it.size for it in taken) <= size
    assert all(min_snr is None or (it.snr_db or 0) < min_snr for it in taken)
    left = size - sum(it.size for it in taken)
    assert all(
        it.size > left or (min_snr is not None and (it.snr_db or 0) >= min_snr)
        for it in inputs
        if it.linears[0] not in kept
    )
