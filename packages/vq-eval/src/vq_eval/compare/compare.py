"""Compare folders of videos with a reference, frame by frame, with every available metric."""

import logging
from collections.abc import Mapping, Sequence
from statistics import fmean

from vq_core.errors import VqError
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_output
from vq_core.runtime.device import resolve_device
from vq_core.runtime.progress import progress
from vq_eval.compare.compared_folders import ComparedEntry, ComparedFolder, open_folders
from vq_eval.compare.gate import check_limits, hold, verdict_of
from vq_eval.compare.intervals import mean_interval
from vq_eval.compare.limits import Limit
from vq_eval.compare.measure import open_reference
from vq_eval.compare.metric_choice import ALL, MetricChoice, choose_metrics
from vq_eval.compare.provenance import AskedVideos, Origin, asked_videos, origin_of
from vq_eval.compare.schema import (
    JSON_NAME,
    CompareReport,
    MeasuredVideo,
    MetricInfo,
    Overall,
    Row,
    VideoInfo,
    finite_figures,
    write_report,
)
from vq_eval.compare.table import to_markdown

log = logging.getLogger(__name__)


def compare(
    entries: Sequence[ComparedEntry],
    output: Location,
    limits: Sequence[Limit] = (),
    *,
    metrics: str = ALL,
    prompts: Location | None = None,
    device: str | None = None,
) -> CompareReport:
    """Compare the videos of all folders with their namesakes in the first, and write the report to `output`.

    Args:
        entries: the reference, then the rows; their .mp4 or .mkv videos have the same stems, frame counts and sizes.
        output: folder to make.
        limits: applied to the rows and recorded in the report; `gate.enforce` raises.
        metrics: comma-separated names, or `all`; see `choose_metrics`.
        prompts: what the videos 000, 001 … were made from, for metrics that need captions or first frames.
        device: where to compute.

    Raises:
        VqError: a folder is missing or holds no videos, names or shapes differ, a file is no video, a metric is unknown
            or suits no video, the prompts are not the reference's, a limit cannot be applied, or `output` exists.
    """
    with local_output(output, last=JSON_NAME) as folder:
        chosen = choose_metrics(metrics)
        check_limits(limits, chosen, entries)
        device = resolve_device(device)
        folders = open_folders(entries)
        origins = [origin_of(folder) for folder in folders]
        asked = asked_videos(origins[0].provenance if origins[0] else None, prompts)
        videos, measured = _measure_all(folders, origins, chosen, asked, device)
        report = _report(folders, origins, chosen, videos, measured, limits)
        write_report(report, to_markdown(report), folder)
    return report


def _measure_all(
    folders: Sequence[ComparedFolder],
    origins: Sequence[Origin | None],
    chosen: MetricChoice,
    asked: AskedVideos,
    device: str,
) -> tuple[list[VideoInfo], list[list[MeasuredVideo]]]:
    """The videos of the reference, each decoded once, and the measured videos of every folder."""
    videos: list[VideoInfo] = []
    measured: list[list[MeasuredVideo]] = [[] for _ in folders]
    lengths = [origin.num_frames if origin else None for origin in origins]
    with progress("compare", len(folders[0].videos) * (len(folders) - 1), "video") as advance:
        for name, path in folders[0].videos.items():
            reference = open_reference(name, path, asked.of(name), chosen.metrics, device, lengths[0])
            videos.append(reference.info)
            measured[0].append(reference.measure_itself())
            for folder, length, of_row in zip(folders[1:], lengths[1:], measured[1:], strict=True):
                log.debug("%s against %s", folder.videos[name], path)
                of_row.append(reference.measure(folder.videos[name], length))
                advance()
    return videos, measured


def _report(
    folders: Sequence[ComparedFolder],
    origins: Sequence[Origin | None],
    chosen: MetricChoice,
    videos: Sequence[VideoInfo],
    measured: Sequence[Sequence[MeasuredVideo]],
    limits: Sequence[Limit],
) -> CompareReport:
    suited = {name for name in chosen.metrics if any(name not in video.unavailable for video in videos)}
    if not suited:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in videos[0].unavailable.items())
        raise VqError(f"No metric suits these videos; of `{videos[0].name}`: {reasons}.")
    infos = {name: MetricInfo.of(metric) for name, metric in chosen.metrics.items() if name in suited}
    unsuited = {name: videos[0].unavailable[name] for name in chosen.metrics if name not in suited}
    rows = [_row(*part, infos) for part in zip(folders, origins, measured, strict=True)]
    gates = hold(limits, infos, rows, videos)
    return CompareReport(
        verdict=verdict_of(gates),
        metrics=infos,
        unavailable=dict(chosen.unavailable) | unsuited,
        reference=rows[0],
        rows=tuple(rows[1:]),
        videos=tuple(videos),
        gates=gates,
    )


def _row(
    folder: ComparedFolder, origin: Origin | None, videos: Sequence[MeasuredVideo], infos: Mapping[str, MetricInfo]
) -> Row:
    entry = folder.entry
    return Row(
        name=entry.name,
        role=entry.role,
        folder=str(entry.location),
        identical_videos=sum(video.identical for video in videos),
        seconds_per_video=origin.seconds_per_video if origin else None,
        provenance=origin.provenance if origin else None,
        overall={
            name: overall_of(name, info, videos)
            for name, info in infos.items()
            if any(name in video.figures for video in videos)
        },
        videos=tuple(videos),
    )


def overall_of(metric: str, info: MetricInfo, videos: Sequence[MeasuredVideo]) -> Overall:
    """`metric` over those of `videos` that have it, at least one."""
    finite = finite_figures(videos, metric)
    if not finite:
        first = next(video.name for video in videos if metric in video.figures)
        return Overall(mean=None, interval=None, worst=None, worst_video=first)
    worst_of = min if info.higher_is_better else max
    worst_video = worst_of(finite, key=finite.__getitem__)
    return Overall(
        mean=fmean(finite.values()),
        interval=mean_interval(list(finite.values())),
        worst=finite[worst_video],
        worst_video=worst_video,
    )
