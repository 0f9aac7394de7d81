"""`auto` with attentions whose errors and times are made up, and errors against the literal formula in fp64."""

import time

import pytest
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_infer.attention import load_attention
from vq_infer.attention_choice import Fastest, relative_error


class Made:
    """Attention off by a factor, after some time."""

    def __init__(self, name: str, error: float, seconds: float) -> None:
        self.NAME = name
        self.ERROR = error
        self.seconds = seconds
        self.calls = 0

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        return load_attention("sdpa").attend(q, k, v) * (1 + self.ERROR)


GENERATOR = torch.Generator().manual_seed(0)
Q, K, V = (torch.randn(2, tokens, 3, 16, generator=GENERATOR) for tokens in (300, 40, 40))


def test_the_fastest_of_the_exact_is_chosen() -> None:
    slow, fast, wrong = Made("slow", 0.001, 0.02), Made("fast", 0.01, 0.004), Made("wrong", 0.2, 0.0)
    auto = Fastest((slow, fast, wrong), tolerance=0.05)
    auto.attend(Q, K, V)
    assert list(auto.chosen.values()) == [fast]
    assert auto.NAME == "automatic attention (fast)"


def test_it_measures_once_for_every_shape() -> None:
    first, second = Made("first", 0.001, 0.02), Made("second", 0.001, 0.0)
    auto = Fastest((first, second), tolerance=0.05)
    auto.attend(Q, K, V)
    calls = first.calls, second.calls
    auto.attend(Q, K, V)
    assert (first.calls, second.calls) == (calls[0], calls[1] + 1)
    auto.attend(Q[:, :7], K, V)
    assert first.calls > calls[0]
    assert len(auto.chosen) == 2


def test_a_model_for_which_nothing_is_exact_enough_is_refused() -> None:
    auto = Fastest((Made("one", 0.2, 0.0), Made("other", 0.3, 0.0)), tolerance=0.05)
    with pytest.raises(VqError, match="the smallest error on the model's inputs is 0.2 and 0.05 is allowed"):
        auto.attend(Q, K, V)


def test_what_does_not_take_the_inputs_is_left_out() -> None:
    slow, picky = Made("slow", 0.001, 0.004), load_attention("fp8")
    q, k, v = (torch.nn.functional.pad(x, (0, 144)) for x in (Q, K, V))  # heads of 160 channels
    auto = Fastest((slow, picky), tolerance=0.05)
    auto.attend(q, k, v)
    assert list(auto.chosen.values()) == [slow]


def test_the_error_is_that_of_the_formula() -> None:
    attention = load_attention("fp8")
    few = Q[:, torch.linspace(0, 299, 256).long()]  # the queries that are probed
    weights = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", few.double(), K.double()) / 4, dim=-1)
    exact = torch.einsum("bhqk,bkhd->bqhd", weights, V.double())
    expected = float((attention.attend(few, K, V) - exact).norm() / exact.norm())
    assert relative_error(attention, Q, K, V) == pytest.approx(expected, rel=1e-3)
    assert relative_error(Made("off", 0.07, 0.0), Q, K, V) == pytest.approx(0.07, rel=1e-3)
