"""The gate: every video of a comparison reaches the least figures that were asked for."""

import math
from collections.abc import Mapping

from vq_core.errors import GateFailed, VqError
from vq_eval.compare_report import CompareReport
from vq_eval.metrics import figure_text


def check_minima(minima: Mapping[str, float]) -> None:
    """Raise `VqError` where a minimum is NaN or infinite: no figure could be held against it."""
    for metric, minimum in minima.items():
        if not math.isfinite(minimum):
            raise VqError(f"`--min-{metric} {minimum}` is not a threshold: give a finite number.")


def enforce(report: CompareReport) -> None:
    """Hold every video against the report's minima.

    Raises:
        GateFailed: a video is below one; the message names the worst video of each metric and by how much it fails.
    """
    failures = [_failure(report, metric, minimum) for metric, minimum in report.minima.items()]
    if any(failures):
        raise GateFailed("; ".join(filter(None, failures)) + ".")


def _failure(report: CompareReport, metric: str, minimum: float) -> str | None:
    worst = report.overall[metric]
    if worst.worst is None or worst.worst >= minimum:
        return None
    figures = [video.figures[metric].video for video in report.videos]
    failed = sum(figure is not None and figure < minimum for figure in figures)
    return (
        f"{metric.upper()} of `{worst.worst_video}` is {figure_text(metric, worst.worst)}, "
        f"{minimum - worst.worst:.3g} below --min-{metric} {minimum:g} ({failed} of {len(figures)} videos fail)"
    )
