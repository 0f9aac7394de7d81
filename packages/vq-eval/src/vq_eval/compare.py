"""Compare two folders of videos, frame by frame, with every metric in `vq_eval.metrics`."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vq_core.discover import plugin_names
from vq_core.errors import VqError
from vq_core.location import Location
from vq_core.progress import progress
from vq_core.remote import local_copy, local_output, refuse_existing
from vq_core.video import read_video
from vq_eval import metrics
from vq_eval.compare_report import JSON_NAME, CompareReport, Figure, VideoComparison, write_report
from vq_eval.gate import check_minima
from vq_eval.metrics import Metric, load_metric

log = logging.getLogger(__name__)

LOSSLESS = ".mkv"
SUFFIXES = (".mp4", LOSSLESS)  # where a folder holds both under one name, the later one is compared


@dataclass(frozen=True)
class Pair:
    """A video of the reference folder and the one of the candidate folder with the same stem."""

    name: str
    reference: Path
    candidate: Path


def compare(reference: Location, candidate: Location, output: Location, minima: Mapping[str, float]) -> CompareReport:
    """Compare every video of `candidate` with its namesake in `reference` and write the report to `output`.

    Args:
        reference: folder of .mp4 or .mkv videos.
        candidate: folder of as many videos with the same stems, frame counts and sizes.
        output: folder to make.
        minima: least acceptable figure of every video, by metric; recorded here, enforced by `gate.enforce`.

    Raises:
        VqError: a folder is missing or holds no videos, the names differ, two videos differ in shape or are too small,
            a file is no video, a minimum is not finite, or `output` exists.
    """
    refuse_existing(output)
    check_minima(minima)
    pairs = match_videos(local_copy(reference), local_copy(candidate))
    used = {name: load_metric(name) for name in plugin_names(metrics.__name__)}
    videos = []
    with progress("compare", len(pairs), "video") as advance:
        for pair in pairs:
            videos.append(_compare_pair(pair, used))
            advance()
    report = CompareReport.of_videos(reference, candidate, minima, tuple(videos))
    with local_output(output, last=JSON_NAME) as folder:
        write_report(report, folder)
    return report


def match_videos(reference: Path, candidate: Path) -> list[Pair]:
    """Pairs of videos of two folders with the same stem, sorted by it.

    Raises:
        VqError: a folder is missing or holds no videos, or a stem stands on one side only.
    """
    references, candidates = _videos_in(reference), _videos_in(candidate)
    if references.keys() != candidates.keys():
        sides = ((reference, references.keys() - candidates.keys()), (candidate, candidates.keys() - references.keys()))
        lonely = " and ".join(f"{', '.join(sorted(names))} only in {folder}" for folder, names in sides if names)
        raise VqError(f"The folders hold different videos, {lonely}: give two folders with the same names.")
    return [Pair(name, references[name], candidates[name]) for name in sorted(references)]


def _videos_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise VqError(f"{folder} is not a folder: give one with .mp4 or .mkv videos.")
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    videos = {path.stem: path for suffix in SUFFIXES for path in visible if path.suffix.lower() == suffix}
    if not videos:
        raise VqError(f"{folder} holds no .mp4 or .mkv video: give a folder that does.")
    return videos


def _compare_pair(pair: Pair, used: Mapping[str, Metric]) -> VideoComparison:
    log.debug("%s against %s", pair.candidate, pair.reference)
    reference, candidate = read_video(pair.reference), read_video(pair.candidate)
    if reference.shape != candidate.shape:
        raise VqError(
            f"`{pair.name}` has {_shape_text(reference)} in {pair.reference} and {_shape_text(candidate)} in "
            f"{pair.candidate}: compare videos made with the same number of frames, height and width."
        )
    frames, height, width, _ = reference.shape
    for name, metric in used.items():
        if min(height, width) < metric.MIN_SIDE:
            raise VqError(
                f"`{pair.name}` in {pair.reference} is {height}x{width} and {name.upper()} needs at least "
                f"{metric.MIN_SIDE}x{metric.MIN_SIDE} pixels: compare larger videos."
            )
    return VideoComparison(
        name=pair.name,
        reference=pair.reference.name,
        candidate=pair.candidate.name,
        lossless=pair.reference.suffix.lower() == pair.candidate.suffix.lower() == LOSSLESS,
        identical=np.array_equal(reference, candidate),
        frames=frames,
        height=height,
        width=width,
        figures={name: _figure(metric, reference, candidate) for name, metric in used.items()},
    )


def _figure(metric: Metric, reference: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> Figure:
    """One frame at a time: the metrics' fp32 intermediates are many times larger than the uint8 video."""
    per_frame = [
        metric.of_frame(_channels_first(frame), _channels_first(candidate_frame))
        for frame, candidate_frame in zip(reference, candidate, strict=True)
    ]
    return Figure(video=_or_none(metric.over_video(per_frame)), per_frame=tuple(map(_or_none, per_frame)))


def _channels_first(frame: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)  # a copy, because torch holds no read-only memory


def _or_none(figure: float) -> float | None:
    return None if figure == math.inf else figure


def _shape_text(video: NDArray[np.uint8]) -> str:
    frames, height, width, _ = video.shape
    return f"{frames} frames of {height}x{width}"
