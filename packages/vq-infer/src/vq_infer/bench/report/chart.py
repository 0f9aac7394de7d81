"""A picture of a run: seconds per step as bars, and the time of a pass by kind of work beside its floor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_core.errors import VqError
from vq_core.files.tensor_file import publish
from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.models.contenders import REFERENCE
from vq_infer.bench.report.results import Results, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS = "#2a7f62", "#9aa5b1"


def require_matplotlib() -> None:
    """Check that a chart can be drawn, before anything is measured.

    Raises:
        VqError: matplotlib is not installed.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise VqError("The chart needs matplotlib: `pip install vq-infer[plot]`, or use --no-chart.")


def draw(results: Results, picture: Path) -> None:
    """Write the PNG `picture`."""
    from matplotlib.figure import Figure

    rows = [row for row in results.rows if row.step_seconds is not None]
    detailed = [row for row in rows if row.lines]
    panels = 2 if detailed else 1
    height = 1.2 + 0.5 * len(rows) + (1.6 + 0.55 * len(detailed) * 2 if detailed else 0)
    figure = Figure(figsize=(11, height), dpi=120, layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False, height_ratios=[1, 1.7][:panels])[:, 0]
    _steps(results, rows, axes[0])
    if detailed:
        _details(detailed, axes[1])
    draft = picture.with_name(f".{picture.name}.tmp")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(draft, format="png")
    publish(draft, picture)


def _steps(results: Results, rows: list[Row], axes: "Axes") -> None:
    seconds = [row.step_seconds or 0.0 for row in rows]
    colours = [OURS if row.name.startswith("vq_") else THEIRS for row in rows]
    bars = axes.barh([row.title for row in rows], seconds, color=colours)
    labels = []
    for row in rows:
        ratio = results.ratio(row, REFERENCE)
        labels.append(f" {row.step_seconds:.3g} s" + (f"  {ratio:.2f}x" if ratio else ""))
    axes.bar_label(bars, labels)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    workload = results.workload
    size = f"{workload.width}x{workload.height}, {workload.num_frames} frames"
    axes.set_title(f"{workload.size}, {size} on {results.machine.device}", fontsize=10)
    axes.set_xlabel("seconds a step, both passes (and times as fast as diffusers, eager)")


def _details(rows: list[Row], axes: "Axes") -> None:
    from matplotlib import colormaps

    palette: Any = colormaps["tab20"]
    names: list[str] = []
    left: dict[str, float] = {}
    for row in rows:
        names += [row.title, f"{row.title}: floor"]
    for index, kind in enumerate(Kind):
        values = []
        for row in rows:
            line = next((line for line in row.lines if line.kind is kind), None)
            values += [line.share.milliseconds, line.floor_ms] if line else [0.0, 0.0]
        if any(values):
            starts = [left.get(name, 0.0) for name in names]
            axes.barh(names, values, left=starts, color=palette(index), label=kind)
            left = {name: start + value for name, start, value in zip(names, starts, values, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of one pass, and the least it can take")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
