import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_core.artifacts.histograms import HISTOGRAMS, HalfOctaves

EIGHT = HalfOctaves(-1, 3)


def _bin(octaves: HalfOctaves, value: float) -> int:
    return int(octaves.bin_of_square(torch.tensor([value]).square()))


@given(st.floats(2.0**-20, 2.0**20, width=32), st.sampled_from([EIGHT, *HISTOGRAMS.values()]))
def test_a_bin_is_the_floor_of_half_octaves_above_the_lowest(value: float, octaves: HalfOctaves) -> None:
    exact = 2 * (math.log2(value) - octaves.low)
    if abs(exact - round(exact)) > 1e-6:  # the square of a value at an edge may round to the other side
        assert _bin(octaves, value) == min(max(math.floor(exact), 0), octaves.bins - 1)


@pytest.mark.parametrize(("value", "index"), [(0.5, 0), (0.7, 0), (0.72, 1), (1.0, 2), (1.4, 2), (1.5, 3), (4.0, 6)])
def test_bins_of_values_near_the_edges(value: float, index: int) -> None:
    assert EIGHT.bins == 8
    assert _bin(EIGHT, value) == index


@pytest.mark.parametrize(("value", "index"), [(0.0, 0), (1e-30, 0), (0.4, 0), (8.0, 7), (1e30, 7)])
def test_what_is_outside_is_counted_at_the_end(value: float, index: int) -> None:
    assert _bin(EIGHT, value) == index


def test_an_upper_edge_is_where_the_next_bin_begins() -> None:
    assert EIGHT.upper_edge(1) == 1.0
    assert EIGHT.upper_edge(7) == 8.0
    assert EIGHT.upper_edge(0) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(("q", "index"), [(0.0, 0), (0.5, 1), (0.98, 1), (0.981, 5), (0.999, 5), (1.0, 6)])
def test_a_quantile_is_the_edge_above_that_share(q: float, index: int) -> None:
    counts = torch.zeros(8, dtype=torch.int64)
    counts[1], counts[5], counts[6] = 980, 19, 1
    expected = EIGHT.upper_edge(0 if q == 0 else index)
    assert EIGHT.quantile(counts, q) == expected


def test_no_tokens_have_no_quantile() -> None:
    assert EIGHT.quantile(torch.zeros(8, dtype=torch.int64), 0.5) is None
