"""Make the folder of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vq_core.files.tensor_file import publish, write_bytes
from vq_core.remote.draft_folder import draft_folder
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy, local_output
from vq_core.runtime.progress import progress
from vq_eval.compare.schema import CompareReport, Row
from vq_eval.report.inputs import folder_of, read_inputs
from vq_eval.report.media import LOSSLESS_PIXELS, write_clip
from vq_eval.report.page import COLOURS, Page, Shown
from vq_eval.report.provenance import chains_of
from vq_eval.report.verdict import ReportVerdict, judge

PAGE = "index.html"
ASSETS = ("style.css", "page.js", "player.js", "charts.js")
PLOTTING = "vega.js"
LICENCE = "/* Vega, Vega-Lite and Vega-Embed, BSD-3-Clause, as bundled by vl-convert-python */"


@dataclass(frozen=True)
class Report:
    """A report that was written: its page, its verdict, and its size."""

    page: Location
    verdict: ReportVerdict
    bytes: int

    def rows(self) -> dict[str, str]:
        """The lines of the printed summary."""
        verdict = self.verdict
        reasons = [sentence.text("en") for sentence in (*verdict.reasons, *verdict.suspects)]
        return {
            "verdict": verdict.headline.text("en"),
            **{f"{number}": reason for number, reason in enumerate(reasons, 1)},
            "page": f"{self.page} ({self.bytes / 1e6:.1f} MB)",
        }

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        verdict = self.verdict
        return {
            "page": str(self.page),
            "bytes": self.bytes,
            "outcome": verdict.outcome,
            "best": verdict.best,
            "headline": verdict.headline.text("en"),
            "reasons": [sentence.text("en") for sentence in verdict.reasons],
            "suspects": [sentence.text("en") for sentence in verdict.suspects],
        }


def make_report(
    comparison: Location,
    output: Location,
    *,
    trajectory: Location | None = None,
    layers: Sequence[Location] = (),
    artifacts: Sequence[Location] = (),
    lossless_frames: bool | None = None,
) -> Report:
    """Write the report of `comparison` to the new folder `output`.

    Args:
        comparison: what `vq-eval compare` wrote. The videos must still be where it found them.
        output: folder to make.
        trajectory: what `vq-eval trajectory` wrote.
        layers: what `vq-eval layers` wrote of candidates.
        artifacts: folders in which to look for what the videos were made from, beside those of the videos themselves.
        lossless_frames: write every frame without loss, for exact differences; None does so where they are few.

    Raises:
        VqError: `output` exists, or see `read_inputs` and `folder_of`.
    """
    with local_output(output, last=PAGE) as folder, draft_folder(folder) as draft:
        inputs = read_inputs(comparison, trajectory, layers)
        compared = inputs.comparison
        rows = (compared.reference, *compared.rows)
        folders = {row.name: folder_of(row) for row in rows}
        chains = chains_of(rows, [local_copy(it, only=["manifest.json", "*/manifest.json"]) for it in artifacts])
        if lossless_frames is None:
            lossless_frames = pixels_of(compared) <= LOSSLESS_PIXELS
        page = Page(inputs, judge(compared, inputs.layers), _write_clips(rows, folders, draft, lossless_frames), chains)
        _write_assets(draft)
        write_bytes(draft / PAGE, page.html().encode())
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
        publish(draft, folder)
    return Report(output / PAGE, page.verdict, size)


def pixels_of(report: CompareReport) -> int:
    """The pixels of all frames of all videos."""
    rows = 1 + len(report.rows)
    return rows * sum(video.frames * video.height * video.width for video in report.videos)


def _write_clips(
    rows: Sequence[Row], folders: Mapping[str, Path], draft: Path, lossless_frames: bool
) -> tuple[Shown, ...]:
    """Write every video of every row, named by numbers, because a row's name may not fit into a path."""
    shown = []
    candidates = 0
    with progress("report", sum(len(row.videos) for row in rows), "video") as advance:
        for number, row in enumerate(rows):
            clips = []
            for index, video in enumerate(row.videos):
                stem = f"{number}/{index:03d}"
                clips.append(write_clip(folders[row.name] / video.file, draft, stem, lossless_frames=lossless_frames))
                advance()
            colour = row.role if row.role != "candidate" else f"candidate-{candidates % COLOURS}"
            candidates += row.role == "candidate"
            shown.append(Shown(f"row-{number}", row, colour, tuple(clips)))
    return tuple(shown)


def _write_assets(draft: Path) -> None:
    """The style sheet, the page's own scripts, and the plotting library as one script."""
    from vl_convert import javascript_bundle

    for name in ASSETS:
        write_bytes(draft / name, files("vq_eval.report").joinpath("assets", name).read_bytes())
    bundle = javascript_bundle()  # type: ignore[call-arg]  # its stub misses the default
    # In a function, because its many names of one letter would be global.
    write_bytes(draft / PLOTTING, f"{LICENCE}\n(() => {{{bundle}}})();\n".encode())
