"""Rows and reports of a comparison from figures."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vq_eval.compare.compare import overall_of
from vq_eval.compare.gate import hold, verdict_of
from vq_eval.compare.limits import Limit
from vq_eval.compare.schema import CompareReport, Figure, MeasuredVideo, MetricInfo, Role, Row, VideoInfo
from vq_eval.metrics import load_metric

Figures = dict[str, dict[str, float | None]]
"""By metric and video."""

INFOS = {name: MetricInfo.of(load_metric(name)) for name in ("psnr", "ssim", "frame_difference", "flicker")}


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """`make_row(name, {"psnr": {"cat": 30.0, "sea": None}})`: a row with these figures of its videos."""

    def make(name: str, figures: Figures, role: Role = "candidate", **more: Any) -> Row:
        names = sorted({video for by_video in figures.values() for video in by_video})
        videos = tuple(
            MeasuredVideo(
                name=video,
                file=f"{video}.mkv",
                lossless=True,
                identical=all(by_video.get(video) is None for by_video in figures.values()),
                figures={
                    metric: Figure(video=by_video[video], per_frame=(by_video[video], None))
                    for metric, by_video in figures.items()
                    if video in by_video
                },
            )
            for video in names
        )
        return Row(
            name=name,
            role=role,
            folder=f"videos/{name}",
            identical_videos=sum(video.identical for video in videos),
            seconds_per_video=None,
            provenance=None,
            overall={metric: overall_of(metric, INFOS[metric], videos) for metric in figures},
            videos=videos,
        ).model_copy(update=more)

    return make


@pytest.fixture
def make_report() -> Callable[..., CompareReport]:
    """`make_report(rows, limits)`: a report of them, the reference first."""

    def make(rows: Sequence[Row], limits: Sequence[Limit] = ()) -> CompareReport:
        names = [video.name for video in rows[0].videos]
        blank = {"frames": 2, "height": 480, "width": 832, "prompt": None, "negative_prompt": None, "seed": None}
        videos = tuple(VideoInfo(name=name, unavailable={}, **blank) for name in names)
        measured = {name for row in rows for name in row.overall}
        infos = {name: info for name, info in INFOS.items() if name in measured}
        gates = hold(limits, infos, rows, videos)
        return CompareReport(
            verdict=verdict_of(gates),
            metrics=infos,
            unavailable={"lpips": "its weights are not here"},
            reference=rows[0],
            rows=tuple(rows[1:]),
            videos=videos,
            gates=gates,
        )

    return make
