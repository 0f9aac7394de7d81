"""The report of a comparison: its schema, and how it is written.

`compare.json` is a `CompareReport`: one reference and several rows, measured by the same metrics on the same videos.
Figures are numbers or null; null stands for an infinite figure (PSNR of equal pixels), because JSON has no infinity.
"""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self

from pydantic import Field, JsonValue

from vq_core.files.tensor_file import publish, write_bytes
from vq_core.remote.transfer import refuse_existing
from vq_eval.metrics import Metric, Per
from vq_eval.record import Record

JSON_NAME = "compare.json"
MARKDOWN_NAME = "compare.md"

Role = Literal["reference", "floor", "candidate"]
Statistic = Literal["mean", "worst"]
Verdict = Literal["passed", "failed", "no gate"]


class MetricInfo(Record):
    """What a metric is, for people.

    Attributes:
        label: its name in tables, such as `PSNR`.
        unit: of its figures, such as `dB`; empty where they have none.
        digits: decimals that are worth showing.
        higher_is_better: whether more is better.
        compares: whether it compares with the reference. Where it does not, the reference has figures of its own.
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
        """What `metric` says of itself."""
        return cls(
            label=metric.LABEL,
            unit=metric.UNIT,
            digits=metric.DIGITS,
            higher_is_better=metric.HIGHER_IS_BETTER,
            compares=metric.COMPARES,
            per=metric.PER,
            meaning=metric.MEANING,
        )

    def text(self, figure: float | None, *, with_unit: bool = True) -> str:
        """A figure for people, such as `31.20 dB`; None, which is infinite, reads "identical"."""
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
    """A video of a row. `figures` lacks the metrics that are not available for it, see `VideoInfo.unavailable`."""

    name: str
    file: str
    lossless: bool
    identical: bool
    figures: dict[str, Figure]


class PromptInfo(Record):
    """What a video was made from; `files` are SHA-256 of its images and videos, by key of the prompt's entry."""

    prompt: str
    negative_prompt: str
    files: dict[str, JsonValue]


class Provenance(Record):
    """What the manifest of a folder of videos says.

    Attributes:
        path: the artifact, as it was given.
        digest: of its manifest, and through it of every file.
        variant: which of its folders was measured; empty where the folder has none.
        tool, family, model: as in the manifest.
        fingerprints: of the model's transformers.
        settings: sampling and everything else that was decided, without the prompts.
        prompts: in the order of the videos.
        parents: digests of the artifacts that they were made from, by kind.
        altered: measured files that are not the ones that were written; their SHA-256 differs from the manifest's.
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
        name: in tables.
        role: `floor` is full precision once more, by another kernel: what no candidate needs to beat.
        folder: as it was given.
        identical_videos: how many are equal to the reference in every pixel.
        seconds_per_video: what one took to make; None where it is not known.
        provenance: None where the folder has no manifest.
        overall: by metric; of the reference those alone that do not compare.
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
    """What the videos of one name have in common.

    Attributes:
        name: the stem that the files share.
        frames, height, width: of every one.
        prompt, negative_prompt, seed: what the reference was made from; None where it has no manifest.
        unavailable: metrics that cannot be measured on it, with the reason.
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
    """One limit, held against one row.

    Attributes:
        row, metric: what was held.
        statistic: `worst` holds every video, `mean` their mean.
        limit: the least figure, or the greatest where lower is better; None is infinite, as a floor without any
            difference is.
        rule: the limit as it was asked for, such as `--min-psnr 30` or `at most 0.5 dB below the floor`.
        figure: what was measured; None is infinite.
        video: the worst one; None for a mean.
        passed: whether the figure keeps the limit.
        sentence: what is said of it, whole.
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
        metrics: those that were measured, in the order of columns.
        unavailable: metrics that were asked for and cannot be measured here, with the reason.
        reference: what the rows are compared with.
        rows: the floor first, where there is one, then the candidates as they were given.
        videos: sorted by name.
        verdict: `failed` where one of `gates` is not passed.
        gates: every limit with every row it was held against.
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
        """The report for machines that want no per-frame figures."""
        per_frame = {"videos": {"__all__": {"figures": {"__all__": {"per_frame"}}}}}
        return self.model_dump(mode="json", exclude={"reference": per_frame, "rows": {"__all__": per_frame}})


def write_report(report: CompareReport, markdown: str, output: Path) -> None:
    """Write `compare.json` and `compare.md` into the new folder `output`, all or nothing.

    Raises:
        VqError: `output` exists.
    """
    refuse_existing(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        draft = Path(temporary) / output.name
        write_bytes(draft / JSON_NAME, f"{report.model_dump_json(indent=2)}\n".encode())
        write_bytes(draft / MARKDOWN_NAME, markdown.encode())
        publish(draft, output)
