"""The drift of candidates as a table."""

from rich.table import Table

from vq_core.runtime.terminal import new_console
from vq_eval.trajectories.schema import CandidateDrift, TrajectoryReport

MIN_WIDTH = 110
LEGEND = (
    "Relative errors of the latent. Own: the steps' own errors, teacher-forced, as if independent; accumulated: of the "
    "last latent, free-running."
)


def rows_of(report: TrajectoryReport) -> list[dict[str, object]]:
    """Name and summary of every candidate, for machines."""
    return [{"name": it.name, "role": it.role, "scheme": it.scheme, **vars(it.summary)} for it in report.candidates]


def print_trajectories(report: TrajectoryReport) -> None:
    """Print a row for every candidate."""
    console = new_console(markup=False, highlight=False)
    console.width = max(console.width, MIN_WIDTH)
    table = Table(box=None, pad_edge=False)
    table.add_column("candidate")
    for head in ("prediction, mean", "own", "accumulated", "× own", "cosine", "worst step"):
        table.add_column(head, justify="right")
    for candidate in report.candidates:
        table.add_row(*_row(report, candidate))
    console.print(table)
    console.print(LEGEND)


def _row(report: TrajectoryReport, candidate: CandidateDrift) -> tuple[str, ...]:
    summary = candidate.summary
    predictions = [e for curve in candidate.teacher_forced.prediction.values() for e in curve.relative_error]
    worst = report.steps[summary.worst_step]
    return (
        candidate.name,
        f"{sum(predictions) / len(predictions):.2e}",
        f"{summary.independent_error:.2e}",
        f"{summary.final_error:.2e}",
        "–" if summary.amplification is None else f"{summary.amplification:.2f}",
        f"{summary.final_cosine:.6f}",
        f"{summary.worst_step} (sigma {worst.sigma:.3f}, {worst.component})",
    )
