"""What every smoother promises, whatever it computes."""

from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vq_algos import smoothers
from vq_algos.smoothers import Smoother, smoother_named
from vq_core.discover import plugin_names
from vq_core.errors import VqError

NAMES = plugin_names(smoothers.__name__)


@pytest.fixture(params=NAMES)
def smoother(request: pytest.FixtureRequest) -> Smoother:
    return smoother_named(cast(str, request.param))


def _absmax(size: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(size, generator=generator) * 10 + 0.1, torch.rand(size, generator=generator) + 0.01


def test_the_known_smoothers_are_found() -> None:
    assert {"none", "smoothquant"} <= set(NAMES)


def test_an_unknown_smoother_lists_the_known_ones() -> None:
    with pytest.raises(VqError, match="`smooth` is not one of the smoothers .*none, smoothquant"):
        smoother_named("smooth")


def test_it_says_whether_it_needs_statistics(smoother: Smoother) -> None:
    assert smoother.NEEDS_STATISTICS in (True, False)


magnitudes = st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**100, width=32))


@pytest.mark.parametrize("name", NAMES)
@given(channels=st.lists(st.tuples(magnitudes, magnitudes), min_size=1, max_size=16), alpha=st.floats(0, 1))
def test_s_is_positive_and_finite_and_so_is_the_gain(
    name: str, channels: list[tuple[float, float]], alpha: float
) -> None:
    activation, weight = (torch.tensor(side) for side in zip(*channels, strict=True))
    s = smoother_named(name).smoothing(activation, weight, alpha)
    gain = (1 / s).bfloat16()
    assert s.dtype == torch.float32
    assert s.shape == activation.shape
    assert torch.all(torch.isfinite(s) & (s > 0))
    assert torch.all(torch.isfinite(gain) & (gain > 0))


def test_channels_are_independent_of_their_order(smoother: Smoother) -> None:
    activation, weight = _absmax()
    order = torch.randperm(len(activation), generator=torch.Generator().manual_seed(1))
    s = smoother.smoothing(activation, weight, 0.6)
    assert torch.equal(smoother.smoothing(activation[order], weight[order], 0.6), s[order])


def test_the_inputs_are_left_as_they_were(smoother: Smoother) -> None:
    activation, weight = _absmax()
    before = activation.clone(), weight.clone()
    smoother.smoothing(activation, weight, 0.5)
    assert torch.equal(activation, before[0])
    assert torch.equal(weight, before[1])
