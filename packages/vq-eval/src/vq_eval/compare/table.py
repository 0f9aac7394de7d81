"""A comparison as tables, on the terminal and in Markdown."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from vq_eval.compare.schema import CompareReport, Figure, MetricInfo, Overall, Row

FOOTNOTE = (
    "Means are over videos, with their 95 % bootstrap intervals over videos in brackets. A video that is identical has "
    "no finite PSNR and is left out of that mean."
)


def console_table(report: CompareReport) -> Table:
    """A line for each metric and a column for each row: mean with interval, and below it the worst video."""
    rows = rows_shown(report)
    table = Table(title=f"Against {report.reference.folder}", title_justify="left", title_style="bold")
    table.add_column("")
    for row in rows:
        table.add_column(Text(row.name), justify="right")
    for name, info in report.metrics.items():
        unit = f" {info.unit}" if info.unit else ""
        cells = [_cell(info, row.overall.get(name)) for row in rows]
        table.add_row(f"{info.label}{unit} {arrow(info)}", *cells)
    return table


def rows_shown(report: CompareReport) -> tuple[Row, ...]:
    """The reference where it has figures of its own, the floor, the candidates."""
    return (report.reference, *report.rows) if report.reference.overall else report.rows


def arrow(info: MetricInfo) -> str:
    """The direction of better figures."""
    return "↑" if info.higher_is_better else "↓"


def mean_text(info: MetricInfo, overall: Overall | None) -> str:
    """Such as `31.20 [29.80, 32.51]`, without the unit; empty where the row has no such figure."""
    if overall is None:
        return ""
    mean = info.text(overall.mean, with_unit=False)
    if overall.interval is None:
        return mean
    low, high = (info.text(end, with_unit=False) for end in overall.interval)
    return f"{mean} [{low}, {high}]"


def worst_text(info: MetricInfo, overall: Overall | None) -> str:
    """Such as `27.25 (003)`; empty where the row has no such figure."""
    return f"{info.text(overall.worst, with_unit=False)} ({overall.worst_video})" if overall is not None else ""


def summary_rows(report: CompareReport) -> dict[str, str]:
    """The lines of the printed summary below the table."""
    rows = {"videos": sources_text(report)}
    identical = {row.name: row.identical_videos for row in report.rows if row.identical_videos}
    if identical:
        rows["identical"] = ", ".join(f"{count} of {name}" for name, count in identical.items())
    seconds = {row.name: row.seconds_per_video for row in rows_shown(report) if row.seconds_per_video is not None}
    if seconds:
        rows["seconds per video"] = ", ".join(f"{value:.1f} {name}" for name, value in seconds.items())
    rows |= {f"altered since made, {row.name}": ", ".join(files) for row, files in _altered(report)}
    rows |= {f"no {name}": reason for name, reason in report.unavailable.items()}
    return rows | {"gate": report.verdict}


def sources_text(report: CompareReport) -> str:
    """How many videos, and whether lossy coding distorts the figures."""
    lossy = sum(not video.lossless for row in report.rows for video in row.videos)
    coding = (
        f"{lossy} pairs with an .mp4, whose lossy coding distorts the figures: compare .mkv for exact ones"
        if lossy
        else "all from lossless .mkv"
    )
    return f"{len(report.videos)} of each row; {coding}"


def to_markdown(report: CompareReport) -> str:
    """The whole report without the figures of frames."""
    rows, infos = rows_shown(report), report.metrics
    head = ["", *(_head(info) for info in infos.values())]
    means = [[_name(row), *(mean_text(info, row.overall.get(name)) for name, info in infos.items())] for row in rows]
    worst = [[_name(row), *(worst_text(info, row.overall.get(name)) for name, info in infos.items())] for row in rows]
    lines = ["# Comparison", "", f"Verdict: **{report.verdict}**.", ""]
    lines += [f"- {'kept' if gate.passed else '**failed**'}: {gate.sentence}." for gate in report.gates]
    lines += ["", f"Reference: `{report.reference.folder}`. Videos: {sources_text(report)}.", ""]
    lines += [f"- {_name(row)} ({row.role}): `{row.folder}`, {row.identical_videos} identical" for row in report.rows]
    lines += [f"- **altered since made**, {_name(row)}: {', '.join(files)}" for row, files in _altered(report)]
    lines += ["", "## Means", "", *_table(head, means), "", FOOTNOTE, "", "## Worst videos", "", *_table(head, worst)]
    lines += ["", "## Videos", "", *_video_table(report), "", "## Metrics", ""]
    lines += [f"- `{name}`, {info.label} {arrow(info)}: {info.meaning}." for name, info in infos.items()]
    lines += [f"- `{name}` was not measured: {reason}." for name, reason in report.unavailable.items()]
    return "\n".join(lines) + "\n"


def _video_table(report: CompareReport) -> list[str]:
    infos, rows = report.metrics, rows_shown(report)
    head = ["video", "", "frames", "height x width", *(_head(info) for info in infos.values())]
    body = []
    for index, video in enumerate(report.videos):
        for row in rows:
            figures = row.videos[index].figures
            cells = [_video_text(info, figures.get(name)) for name, info in infos.items()]
            body.append([video.name, _name(row), str(video.frames), f"{video.height}x{video.width}", *cells])
    return _table(head, body)


def _video_text(info: MetricInfo, figure: Figure | None) -> str:
    return info.text(figure.video, with_unit=False) if figure is not None else ""


def _head(info: MetricInfo) -> str:
    return f"{info.label}{f' {info.unit}' if info.unit else ''} {arrow(info)}"


def _name(row: Row) -> str:
    return row.name.replace("|", "\\|")


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


def _cell(info: MetricInfo, overall: Overall | None) -> str:
    if overall is None:
        return ""
    mean, *interval = mean_text(info, overall).split(" ", 1)
    return "\n".join([mean, *interval, f"worst {worst_text(info, overall)}"])


def _altered(report: CompareReport) -> list[tuple[Row, tuple[str, ...]]]:
    return [
        (row, row.provenance.altered)
        for row in (report.reference, *report.rows)
        if row.provenance is not None and row.provenance.altered
    ]
