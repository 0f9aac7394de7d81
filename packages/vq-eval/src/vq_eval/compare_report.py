"""The report of a comparison: its schema, its Markdown table, and how it is written.

`compare.json` is a `CompareReport`. Figures are numbers or null; null stands for an infinite figure (PSNR of equal
pixels), because JSON has no infinity.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from vq_core.location import Location
from vq_core.remote import refuse_existing
from vq_core.tensor_file import publish, write_bytes
from vq_eval.metrics import figure_text

JSON_NAME = "compare.json"
MARKDOWN_NAME = "compare.md"

FOOTNOTE = (
    "PSNR of a video is that of the mean squared error over all its frames. The means are over videos, and a video "
    "that is identical, having no finite PSNR, is left out of that mean. SSIM is the mean over frames."
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Record):
    """One metric of one video; None is infinite."""

    video: float | None
    per_frame: tuple[float | None, ...]


class VideoComparison(_Record):
    """One pair of videos; `reference` and `candidate` are file names, `height` and `width` pixels."""

    name: str
    reference: str
    candidate: str
    lossless: bool
    identical: bool
    frames: int
    height: int
    width: int
    figures: dict[str, Figure]


class Overall(_Record):
    """One metric over all videos; `mean` leaves infinite figures out and is None where all are infinite."""

    mean: float | None
    worst: float | None
    worst_video: str


class CompareReport(_Record):
    """A comparison of two folders of videos; `minima` are the gates that were set, by metric."""

    kind: Literal["compare-report"] = "compare-report"
    format: Literal[1] = 1
    tool: str = Field(default_factory=lambda: f"vq-eval {version('vq-eval')}")
    reference: str
    candidate: str
    minima: dict[str, float]
    identical_videos: int
    overall: dict[str, Overall]
    videos: tuple[VideoComparison, ...]

    @classmethod
    def of_videos(
        cls, reference: Location, candidate: Location, minima: Mapping[str, float], videos: tuple[VideoComparison, ...]
    ) -> Self:
        """The report of `videos` (at least one, all with the same metrics)."""
        return cls(
            reference=str(reference),
            candidate=str(candidate),
            minima=dict(minima),
            identical_videos=sum(video.identical for video in videos),
            overall={metric: _overall(metric, videos) for metric in videos[0].figures},
            videos=videos,
        )

    def without_frames(self) -> dict[str, object]:
        """The report for machines that want no per-frame figures."""
        return self.model_dump(mode="json", exclude={"videos": {"__all__": {"figures": {"__all__": {"per_frame"}}}}})


def _overall(metric: str, videos: tuple[VideoComparison, ...]) -> Overall:
    figures = {video.name: video.figures[metric].video for video in videos}
    finite = {name: figure for name, figure in figures.items() if figure is not None}
    worst_video = min(finite, key=finite.__getitem__) if finite else videos[0].name
    return Overall(mean=fmean(finite.values()) if finite else None, worst=figures[worst_video], worst_video=worst_video)


def summary_rows(report: CompareReport) -> dict[str, str]:
    """The lines of the printed summary."""
    rows = {f"video {video.name}": _figures_text(video) for video in report.videos}
    for metric, overall in report.overall.items():
        mean, worst = figure_text(metric, overall.mean), figure_text(metric, overall.worst)
        rows[f"{metric.upper()} overall"] = f"{mean} mean, {worst} worst ({overall.worst_video})"
    return rows | {"videos": _sources_text(report)}


def to_markdown(report: CompareReport) -> str:
    """The report as a table for people."""
    metrics = list(report.overall)
    head = ["video", "frames", "height x width", *(metric.upper() for metric in metrics)]
    body = [
        [
            video.name,
            str(video.frames),
            f"{video.height}x{video.width}",
            *(figure_text(metric, video.figures[metric].video) for metric in metrics),
        ]
        for video in report.videos
    ]
    mean = ["**mean**", "", "", *(figure_text(metric, report.overall[metric].mean) for metric in metrics)]
    worst = ["**worst**", "", "", *(figure_text(metric, report.overall[metric].worst) for metric in metrics)]
    table = [head, ["---"] * len(head), *body, mean, worst]
    lines = [
        "# Comparison",
        "",
        f"`{report.candidate}` against the reference `{report.reference}`. Videos: {_sources_text(report)}.",
        "",
        *(f"| {' | '.join(row)} |" for row in table),
        "",
        FOOTNOTE,
    ]
    return "\n".join(lines) + "\n"


def _figures_text(video: VideoComparison) -> str:
    texts = {metric: figure_text(metric, figure.video) for metric, figure in video.figures.items()}
    return "  ".join(f"{metric.upper()} {text}" for metric, text in texts.items())


def _sources_text(report: CompareReport) -> str:
    lossy = sum(not video.lossless for video in report.videos)
    coding = (
        f"{lossy} from .mp4, whose lossy coding distorts the figures: compare .mkv for exact ones"
        if lossy
        else "all from lossless .mkv"
    )
    return f"{len(report.videos)} compared, {report.identical_videos} identical; {coding}"


def write_report(report: CompareReport, output: Path) -> None:
    """Write `compare.json` and `compare.md` into the new folder `output`, all or nothing.

    Raises:
        VqError: `output` exists.
    """
    refuse_existing(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        draft = Path(temporary) / output.name
        write_bytes(draft / JSON_NAME, f"{report.model_dump_json(indent=2)}\n".encode())
        write_bytes(draft / MARKDOWN_NAME, to_markdown(report).encode())
        publish(draft, output)
