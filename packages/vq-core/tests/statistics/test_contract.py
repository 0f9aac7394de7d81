"""What every file in `vq_core/statistics` promises, checked on every one that is there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_core.discover import load_plugin, plugin_names
from vq_core.statistics import Statistic, all_statistics

PACKAGE = "vq_core.statistics"
NAMES = plugin_names(PACKAGE)


@pytest.fixture(params=NAMES)
def statistic(request: pytest.FixtureRequest) -> Statistic:
    return all_statistics()[request.param]


def _tokens(tokens: int, channels: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(tokens, channels, generator=generator) * torch.linspace(0.01, 50, channels)).to(dtype)


def _reduced(statistic: Statistic, x: Tensor) -> Tensor:
    return statistic.reduce(x).to(statistic.DTYPE)


def test_all_statistics_are_the_files_in_order() -> None:
    assert list(all_statistics()) == NAMES == sorted(NAMES)
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_computes(name: str) -> None:
    module = load_plugin(PACKAGE, name)
    assert module.__doc__
    assert module.reduce.__doc__
    assert module.merge.__doc__


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_per_channel_in_fp32(statistic: Statistic, dtype: torch.dtype) -> None:
    reduced = statistic.reduce(_tokens(9, 5, 0, dtype))
    assert reduced.shape == (5,)
    assert reduced.dtype == torch.float32


def test_the_input_is_left_alone(statistic: Statistic) -> None:
    x = _tokens(9, 5, 1)
    before = x.clone()
    statistic.reduce(x)
    assert torch.equal(x, before)


def test_zero_is_where_it_starts(statistic: Statistic) -> None:
    value = _reduced(statistic, _tokens(9, 5, 2))
    zero = torch.zeros(5, dtype=statistic.DTYPE)
    assert torch.equal(statistic.merge(zero, value), value)
    assert torch.equal(statistic.merge(value, zero), value)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    channels=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_parts_merge_to_the_whole(name: str, sizes: list[int], channels: int, seed: int) -> None:
    statistic = all_statistics()[name]
    x = _tokens(sum(sizes), channels, seed)
    merged = torch.zeros(channels, dtype=statistic.DTYPE)
    for part in x.split(sizes):
        merged = statistic.merge(merged, _reduced(statistic, part))
    assert merged.dtype == statistic.DTYPE
    # A sum may cancel: rounding is relative to the magnitudes that were added, at most their number times the largest.
    slack = 1e-6 * statistic.reduce(x.abs()).double()
    assert torch.all((merged.double() - _reduced(statistic, x).double()).abs() <= slack)


def test_merging_does_not_depend_on_the_order_of_two(statistic: Statistic) -> None:
    a, b = (_reduced(statistic, _tokens(9, 5, seed)) for seed in (3, 4))
    assert torch.equal(statistic.merge(a, b), statistic.merge(b, a))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_shows(statistic: Statistic, value: float) -> None:
    x = _tokens(9, 5, 5)
    x[4, 2] = value
    reduced = _reduced(statistic, x)
    assert reduced.isfinite().tolist() == [True, True, False, True, True]
    assert not statistic.merge(torch.ones(5, dtype=statistic.DTYPE), reduced)[2].isfinite()


def test_equal_rows_do_not_add_up_their_rounding_errors(statistic: Statistic) -> None:
    x = (torch.rand(1, 32, generator=torch.Generator().manual_seed(6)) + 0.1).expand(32760, 32).contiguous()
    is_sum = statistic.DTYPE is torch.float64
    exact = statistic.reduce(x[:1]).double() * (len(x) if is_sum else 1)
    torch.testing.assert_close(statistic.reduce(x).double(), exact, rtol=1e-6, atol=0)


def test_sums_are_exact_on_their_grid_far_beyond_a_run(statistic: Statistic) -> None:
    """At 2^53 grids fp64 stops telling neighbours apart; everything below adds up exactly, in any order."""
    if statistic.GRID is None:
        a, b = torch.tensor([3.0]), torch.tensor([2.0])
        assert torch.equal(statistic.merge(statistic.merge(a, b), b), statistic.merge(a, b))
        return
    large = torch.tensor([2.0**53 * statistic.GRID - 2 * statistic.GRID], dtype=statistic.DTYPE)
    one = torch.tensor([statistic.GRID], dtype=statistic.DTYPE)
    assert statistic.merge(large, one).item() - large.item() == statistic.GRID
