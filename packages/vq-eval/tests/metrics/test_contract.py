"""What every metric promises, whatever it measures."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vq_core.discover import plugin_names
from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_eval import metrics
from vq_eval.compare.schema import MetricInfo
from vq_eval.metrics import Clip, Metric, load_metric, metric_names

NAMES = plugin_names(metrics.__name__)


@pytest.fixture(params=NAMES)
def metric(request: pytest.FixtureRequest) -> Metric:
    if request.param == "lpips":
        request.getfixturevalue("random_alexnet")
    return load_metric(request.param)


@pytest.fixture(scope="module")
def clips(large: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """`large`, in files too."""
    folder = tmp_path_factory.mktemp("clips")
    for index, clip in enumerate(large):
        write_video(folder / f"{index}.mkv", clip.frames, 16)
    return [replace(clip, path=folder / f"{index}.mkv") for index, clip in enumerate(large)]


def _clip(folder: Path, frames: np.ndarray) -> Clip:
    path = folder / f"{len(frames)}-{frames.shape[1]}-{frames.mean():.0f}.mkv"
    write_video(path, frames, 16)
    return Clip(path, frames)


def test_the_known_metrics_are_found() -> None:
    known = {"psnr", "ssim", "ms_ssim", "lpips", "vmaf", "frame_difference", "flicker"}
    assert known <= set(NAMES) <= set(metric_names())


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(VqError, match="`sharpness` is not one of the metrics .*psnr, ssim"):
        load_metric("sharpness")


def test_more_distortion_gives_a_worse_figure(metric: Metric, clips: list[Clip]) -> None:
    info = MetricInfo.of(metric)
    figures = [metric.over_video(metric.measure(clips[0], clip)) for clip in clips]
    assert all(info.worse_by(worse, better) > 0 for better, worse in pairwise(figures))


def test_each_frame_or_step_has_a_figure_that_depends_on_the_videos_alone(metric: Metric, clips: list[Clip]) -> None:
    before = [clip.frames.copy() for clip in clips[:2]]
    first, second = (list(metric.measure(clips[0], clips[1])) for _ in range(2))
    assert first == second
    assert len(first) == {"frame": 3, "step": 2, "video": 1}[metric.PER]
    assert all(np.array_equal(clip.frames, frames) for clip, frames in zip(clips, before, strict=False))
    against_itself = list(metric.measure(clips[1], clips[1]))
    assert (first == against_itself) is not metric.COMPARES


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Clip]:
    """Black and white videos of two frames, by side and level."""
    folder = tmp_path_factory.mktemp("flat")
    shapes = [(side, level) for side in (1, 16, 32, 176) for level in (0, 255)]
    return {shape: _clip(folder, np.full((2, shape[0], shape[0], 3), shape[1], np.uint8)) for shape in shapes}


@pytest.mark.parametrize("side", [1, 16, 32, 176])
def test_flat_videos_of_any_size_have_a_figure_or_a_reason(
    metric: Metric, side: int, flat: dict[tuple[int, int], Clip]
) -> None:
    black, white = flat[side, 0], flat[side, 255]
    reason = metric.unsuited(black)
    if reason is not None:
        assert f"the video has {side}x{side}" in reason
        return
    for pair in ((black, black), (black, white), (white, white)):
        figure = metric.over_video(metric.measure(*pair))
        assert not math.isnan(figure)
        assert figure > -math.inf


def test_a_single_frame_has_a_figure_or_a_reason(metric: Metric, clips: list[Clip], tmp_path: Path) -> None:
    still = _clip(tmp_path, clips[0].frames[:1])
    if metric.PER == "step":
        assert metric.unsuited(still) == "it needs two frames, and the video has one"
    else:
        assert metric.unsuited(still) is None
        assert len(metric.measure(still, still)) == 1


def test_a_video_lies_between_its_frames(metric: Metric) -> None:
    if metric.PER != "video":
        assert 0.5 < metric.over_video([0.5, 0.75, 1.0]) < 1.0
    assert metric.over_video([0.75]) == pytest.approx(0.75)


def test_it_tells_what_it_is(metric: Metric) -> None:
    info = MetricInfo.of(metric)
    assert info.label
    assert info.meaning
    assert info.text(0.5).startswith("0.5")
    assert info.text(0.5).endswith(info.unit)
    assert info.text(None) == "identical"
