"""What every metric promises, whatever it measures."""

import math

import numpy as np
import pytest
import torch

from vq_core.discover import plugin_names
from vq_core.errors import VqError
from vq_eval import metrics
from vq_eval.metrics import Metric, figure_text, load_metric

NAMES = plugin_names(metrics.__name__)


@pytest.fixture(params=NAMES)
def metric(request: pytest.FixtureRequest) -> Metric:
    return load_metric(request.param)


def _frame(video: np.ndarray, index: int = 0) -> torch.Tensor:
    return torch.from_numpy(video[index]).permute(2, 0, 1)


def test_the_known_metrics_are_found() -> None:
    assert {"psnr", "ssim"} <= set(NAMES)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(VqError, match="`vmaf` is not one of the metrics .*psnr, ssim"):
        load_metric("vmaf")


def test_more_distortion_gives_a_lower_figure(metric: Metric, clip: np.ndarray, noisy: np.ndarray) -> None:
    equal = metric.of_frame(_frame(clip), _frame(clip))
    figures = [metric.of_frame(_frame(clip, index), _frame(noisy, index)) for index in range(len(clip))]
    assert [equal, *figures] == sorted([equal, *figures], reverse=True)
    assert len({equal, *figures}) == 1 + len(figures)


def test_the_frames_are_left_as_they_were(metric: Metric, clip: np.ndarray, noisy: np.ndarray) -> None:
    reference, candidate = _frame(clip), _frame(noisy)
    before = reference.clone(), candidate.clone()
    metric.of_frame(reference, candidate)
    assert torch.equal(reference, before[0])
    assert torch.equal(candidate, before[1])


@pytest.mark.parametrize(("reference", "candidate"), [(0, 0), (0, 255), (255, 255)])
def test_flat_frames_of_least_size_have_a_figure(metric: Metric, reference: int, candidate: int) -> None:
    shape = (3, metric.MIN_SIDE, metric.MIN_SIDE)
    figure = metric.of_frame(torch.full(shape, reference).byte(), torch.full(shape, candidate).byte())
    assert not math.isnan(figure)
    assert figure > -math.inf


def test_a_video_lies_between_its_frames(metric: Metric) -> None:
    assert 0.5 < metric.over_video([0.5, 0.75, 1.0]) < 1.0
    assert metric.over_video([0.75, 0.75]) == pytest.approx(0.75)


@pytest.mark.parametrize("name", NAMES)
def test_figures_have_a_text(name: str) -> None:
    assert "0.5" in figure_text(name, 0.5)
    assert figure_text(name, None) == "identical"
