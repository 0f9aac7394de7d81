import numpy as np
import pytest

from vq_eval.compare.intervals import LEVEL, mean_interval


def test_one_figure_has_none() -> None:
    assert mean_interval([]) is None
    assert mean_interval([30.0]) is None


def test_equal_figures_have_an_interval_of_no_width() -> None:
    assert mean_interval([0.9, 0.9, 0.9]) == pytest.approx((0.9, 0.9))


def test_two_runs_give_the_same_interval() -> None:
    figures = [30.1, 28.4, 33.3, 29.0]
    assert mean_interval(figures) == mean_interval(figures)


def test_it_holds_the_true_mean_nearly_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    samples = generator.normal(5.0, 2.0, (100, 32))
    intervals = [mean_interval(list(sample)) or (np.nan, np.nan) for sample in samples]
    held = np.mean([low <= 5.0 <= high for low, high in intervals])
    assert LEVEL - 0.05 <= held <= LEVEL + 0.05


def test_it_is_as_wide_as_the_theory_of_large_samples_has_it() -> None:
    figures = np.random.default_rng(2).normal(0, 1, 400)
    low, high = mean_interval(list(figures)) or (np.nan, np.nan)
    assert high - low == pytest.approx(2 * 1.96 * figures.std() / 20, rel=0.05)
