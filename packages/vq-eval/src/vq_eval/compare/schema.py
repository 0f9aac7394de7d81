"""The report of a comparison: its schema, and how it is written.

`compare.json` is a `CompareReport`: one reference and several rows, measured by the same metrics on the same videos.
A figure is a number, or null for an infinite one (PSNR of equal pixels), because JSON has no infinity.
"""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue

from vq_core.files.tensor_file import publish, write_bytes
from vq_core.remote.draft_folder import draft_folder
from vq_core.remote.transfer import refuse_existing
from vq_eval.metrics import Metric, Per
from vq_eval.record import Record

JSON_NAME = "compare.json"
MARKDOWN_NAME = "compare.md"

Role = Literal["reference", "floor", "candidate"]
Statistic = Literal["mean", "worst"]
Verdict = Literal["passed", "failed", "no gate"]


class MetricInfo(Record):
    """A metric as a report describes it.

    Attributes:
        label: its name in tables, such as `PSNR`.
        unit: of its figures, such as `dB`; empty where they have none.
        digits: decimals worth showing.
        compares: whether it compares with the reference; otherwise the reference has figures of its own.
        per: what an entry of `per_frame` belongs to: a frame, a step from one frame to the next, or nothing (`video`).
        meaning: one line.
    """

    label: str
    unit: str
    digits: int
    higher_is_better: bool
    compares: bool
    per: Per
    meaning: str

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """The description of `metric`."""
        return cls.model_validate({name: getattr(metric, name.upper()) for name in cls.model_fields})

    def text(self, figure: float | None, *, with_unit: bool = True) -> str:
        """A figure as text, such as `31.20 dB`; None, which is infinite, reads "identical"."""
        if figure is None:
            return "identical"
        return f"{figure:.{self.digits}f}{f' {self.unit}' if self.unit and with_unit else ''}"

    def worse_by(self, figure: float, limit: float) -> float:
        """By how much `figure` is worse than `limit`; negative where it is better."""
        return limit - figure if self.higher_is_better else figure - limit


class Figure(Record):
    """One metric of one video; None is infinite. `per_frame` is empty where the metric has no such figures."""

    video: float | None
    per_frame: tuple[float | None, ...]


class Overall(Record):
    """One metric over the videos of a row.

    Attributes:
        mean: over the videos with a finite figure; None where every figure is infinite.
        interval: 95 % bootstrap interval of that mean, low and high; None for fewer than two finite figures.
        worst: figure of the worst video.
        worst_video: its name.
    """

    mean: float | None
    interval: tuple[float, float] | None
    worst: float | None
    worst_video: str


class MeasuredVideo(Record):
    """A video of a row; `figures` lacks the metrics in `VideoInfo.unavailable`."""

    name: str
    file: str
    lossless: bool
    identical: bool
    figures: dict[str, Figure]


def finite_figures(videos: Iterable[MeasuredVideo], metric: str) -> dict[str, float]:
    """The finite figures of one metric, by video."""
    figures = {video.name: video.figures[metric].video for video in videos if metric in video.figures}
    return {name: figure for name, figure in figures.items() if figure is not None}


class PromptInfo(Record):
    """What a video was made from; `files` holds the SHA-256 of its images and videos, by key of the prompt's entry."""

    prompt: str
    negative_prompt: str
    files: dict[str, JsonValue]


class Provenance(Record):
    """What the manifest of a folder of videos records.

    Attributes:
        path: the artifact, as given.
        digest: of its manifest, and through it of every file.
        variant: the folder of the artifact that was measured; empty where it has none.
        fingerprints: of the model's transformers.
        settings: the manifest's, without the prompts.
        prompts: in the order of the videos.
        parents: digests of the artifacts that the videos were made from, by kind.
        altered: measured files whose SHA-256 is not the manifest's.
    """

    path: str
    digest: str
    variant: str
    tool: str
    family: str
    model: str
    fingerprints: dict[str, str]
    settings: dict[str, JsonValue]
    prompts: tuple[PromptInfo, ...]
    parents: dict[str, str]
    altered: tuple[str, ...]


class Row(Record):
    """A folder of videos: the reference itself, the floor or a candidate.

    Attributes:
        role: `floor` is full precision again, with another kernel: no candidate needs to be better.
        folder: as given.
        identical_videos: how many equal the reference in every pixel.
        seconds_per_video: how long one took to make; None where it is not known.
        provenance: None where the folder has no manifest.
        overall: by metric; of the reference, only metrics that do not compare.
        videos: in the order of `CompareReport.videos`.
    """

    name: str
    role: Role
    folder: str
    identical_videos: int
    seconds_per_video: float | None
    provenance: Provenance | None
    overall: dict[str, Overall]
    videos: tuple[MeasuredVideo, ...]


class VideoInfo(Record):
    """What the videos of one name share.

    Attributes:
        name: the files' stem.
        prompt, negative_prompt, seed: what the reference was made from; None where it has no manifest.
        unavailable: metrics that cannot be measured on them, with the reason.
    """

    name: str
    frames: int
    height: int
    width: int
    prompt: str | None
    negative_prompt: str | None
    seed: int | None
    unavailable: dict[str, str]


class GateResult(Record):
    """One limit, applied to one row.

    Attributes:
        statistic: `worst` limits every video, `mean` their mean.
        limit: the least figure, or the greatest where lower is better; None is infinite, as of an identical floor.
        rule: the limit as it was given, such as `--min-psnr 30` or `at most 0.5 dB below the floor`.
        figure: what was measured; None is infinite.
        video: the worst one; None for a mean.
        passed: whether the figure keeps the limit.
        sentence: the result in words.
    """

    row: str
    metric: str
    statistic: Statistic
    limit: float | None
    rule: str
    figure: float | None
    video: str | None
    passed: bool
    sentence: str


class CompareReport(Record):
    """A comparison of one folder of videos with others.

    Attributes:
        tool: `vq-eval` and its version.
        verdict: `failed` where one of `gates` is not passed.
        metrics: those that were measured, in the order of columns.
        unavailable: requested metrics that cannot be measured here, with the reason.
        rows: the floor first, where there is one, then the candidates as given.
        videos: sorted by name.
        gates: every limit with every row it applies to.
    """

    kind: Literal["compare-report"] = "compare-report"
    format: Literal[2] = 2
    tool: str = Field(default_factory=lambda: f"vq-eval {version('vq-eval')}")
    verdict: Verdict
    metrics: dict[str, MetricInfo]
    unavailable: dict[str, str]
    reference: Row
    rows: tuple[Row, ...]
    videos: tuple[VideoInfo, ...]
    gates: tuple[GateResult, ...]

    def without_frames(self) -> dict[str, object]:
        """The report as JSON without the figures of frames."""
        per_frame = {"videos": {"__all__": {"figures": {"__all__": {"per_frame"}}}}}
        return self.model_dump(mode="json", exclude={"reference": per_frame, "rows": {"__all__": per_frame}})


def write_report(report: CompareReport, markdown: str, output: Path) -> None:
    """Write `compare.json` and `compare.md` into the new folder `output`, all or nothing.

    Raises:
        VqError: `output` exists.
    """
    refuse_existing(output)
    with draft_folder(output) as draft:
        write_bytes(draft / JSON_NAME, f"{report.model_dump_json(indent=2)}\n".encode())
        write_bytes(draft / MARKDOWN_NAME, markdown.encode())
        publish(draft, output)
