from pathlib import Path

import pytest

from vq_core.errors import GateFailed, VqError
from vq_eval.compare_report import CompareReport, Figure, VideoComparison
from vq_eval.gate import check_minima, enforce


def _report(minima: dict[str, float], psnr_db: dict[str, float | None]) -> CompareReport:
    videos = tuple(
        VideoComparison(
            name=name,
            reference=f"{name}.mkv",
            candidate=f"{name}.mkv",
            lossless=True,
            identical=figure is None,
            frames=1,
            height=16,
            width=16,
            figures={
                "psnr": Figure(video=figure, per_frame=(figure,)),
                "ssim": Figure(video=0.9, per_frame=(0.9,)),
            },
        )
        for name, figure in psnr_db.items()
    )
    return CompareReport.of_videos(Path("a"), Path("b"), minima, videos)


def test_the_worst_video_is_named_with_what_it_lacks() -> None:
    with pytest.raises(GateFailed) as failure:
        enforce(_report({"psnr": 30.0}, {"sea": 33.0, "cat": 27.25, "fog": 29.0}))
    assert str(failure.value) == ("PSNR of `cat` is 27.25 dB, 2.75 below --min-psnr 30 (2 of 3 videos fail).")


def test_every_failed_metric_is_named() -> None:
    with pytest.raises(GateFailed, match=r"PSNR of `cat` .*; SSIM of `cat` is 0\.9000, 0\.05 below --min-ssim 0\.95"):
        enforce(_report({"psnr": 30.0, "ssim": 0.95}, {"cat": 27.0}))


def test_a_mean_above_the_minimum_does_not_hide_a_bad_video() -> None:
    with pytest.raises(GateFailed, match="`cat`"):
        enforce(_report({"psnr": 30.0}, {"sea": 60.0, "cat": 29.0}))


@pytest.mark.parametrize("minima", [{}, {"psnr": 30.0}, {"psnr": 20.0, "ssim": 0.9}])
def test_figures_at_or_above_the_minima_pass(minima: dict[str, float]) -> None:
    enforce(_report(minima, {"sea": 30.0, "cat": None}))


def test_identical_videos_pass_every_minimum() -> None:
    enforce(_report({"psnr": 1e9}, {"sea": None}))


@pytest.mark.parametrize("minimum", [float("nan"), float("inf"), float("-inf")])
def test_a_minimum_that_is_not_finite_is_refused(minimum: float) -> None:
    with pytest.raises(VqError, match="--min-psnr .* is not a threshold: give a finite number"):
        check_minima({"psnr": minimum})
