"""The rank of every row of a comparison: its lead figure, its gap to the floor, and its gates."""

from dataclasses import dataclass

from vq_eval.compare.intervals import mean_interval
from vq_eval.compare.schema import CompareReport, GateResult, Overall, Row, finite_figures

LEAD = "psnr"


@dataclass(frozen=True)
class Gap:
    """By how much one row is better than another, in the unit of the lead metric, over the videos finite in both.

    Attributes:
        mean: of the differences video by video; negative where it is worse.
        interval: 95 % bootstrap interval of that mean; None for fewer than two videos.
    """

    mean: float
    interval: tuple[float, float] | None

    @property
    def is_certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True)
class Standing:
    """The rank of one row.

    Attributes:
        overall: its lead figure.
        to_floor: how much better than the floor; None without a floor, for the floor itself, or without finite figures.
        passed, failed: its gates.
    """

    row: Row
    overall: Overall
    to_floor: Gap | None
    passed: tuple[GateResult, ...]
    failed: tuple[GateResult, ...]

    @property
    def identical(self) -> bool:
        """Whether every video equals the reference."""
        return self.row.identical_videos == len(self.row.videos)


def lead_metric(report: CompareReport) -> str | None:
    """The metric that candidates are ranked by: PSNR, else the first that compares; None where none does."""
    comparing = [name for name, metric in report.metrics.items() if metric.compares]
    return LEAD if LEAD in comparing else next(iter(comparing), None)


def standings_of(report: CompareReport, lead: str) -> list[Standing]:
    """Every row that has the metric `lead`: candidates that pass their gates first, best first, then the others."""
    floor = floor_of(report)
    standings = [
        Standing(
            row,
            row.overall[lead],
            None if floor is None or row is floor else gap(report, row, floor, lead),
            tuple(gate for gate in report.gates if gate.row == row.name and gate.passed),
            tuple(gate for gate in report.gates if gate.row == row.name and not gate.passed),
        )
        for row in report.rows
        if lead in row.overall
    ]
    return sorted(standings, key=lambda it: (it.row.role != "floor", bool(it.failed), -_goodness(report, it, lead)))


def floor_of(report: CompareReport) -> Row | None:
    """The floor; None where the comparison has none."""
    return next((row for row in report.rows if row.role == "floor"), None)


def gap(report: CompareReport, row: Row, other: Row, metric: str) -> Gap | None:
    """How much better `row` is than `other`; None where no video has a finite figure in both."""
    ours, theirs = finite_figures(row.videos, metric), finite_figures(other.videos, metric)
    sign = 1 if report.metrics[metric].higher_is_better else -1
    differences = [sign * (ours[name] - theirs[name]) for name in ours.keys() & theirs.keys()]
    if not differences:
        return None
    return Gap(sum(differences) / len(differences), mean_interval(sorted(differences)))


def _goodness(report: CompareReport, standing: Standing, lead: str) -> float:
    if standing.overall.mean is None:
        return float("inf")
    return standing.overall.mean if report.metrics[lead].higher_is_better else -standing.overall.mean
