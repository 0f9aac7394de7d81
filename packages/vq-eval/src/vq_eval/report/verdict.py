"""The verdict on top of the report: which candidate to ship, why, and what is suspicious."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from vq_eval.compare.schema import CompareReport, MetricInfo, Overall, Verdict, finite_figures
from vq_eval.layers.schema import LayersReport
from vq_eval.report.standings import Gap, Standing, floor_of, gap, lead_metric, standings_of
from vq_eval.report.words import Sentence, say

Outcome = Literal["ship", "closest", "none"]
OUTSTANDING = 3.0
"""A video is suspicious if its error exceeds the median of its row by this factor in amplitude: 9.5 dB of PSNR."""


@dataclass(frozen=True)
class ReportVerdict:
    """The top of the report.

    Attributes:
        outcome: `ship` where a candidate passes the gates, `closest` where none was set, `none` where all fail.
        headline: one line.
        reasons: a few lines.
        suspects: what to look at.
        standings: of every row, the floor first, then the candidates from best to worst.
        lead: the metric that they are ranked by; None where no metric compares.
    """

    outcome: Outcome
    headline: Sentence
    reasons: tuple[Sentence, ...]
    suspects: tuple[Sentence, ...]
    standings: tuple[Standing, ...]
    lead: str | None

    @property
    def best(self) -> str | None:
        """The candidate to ship, or the closest one; None where every one fails."""
        candidates = [it.row.name for it in self.standings if it.row.role == "candidate"]
        return candidates[0] if candidates and self.outcome != "none" else None


def judge(report: CompareReport, layers: Mapping[str, LayersReport]) -> ReportVerdict:
    """The verdict over a comparison; `layers`, by the name of the candidate, name suspects."""
    lead = lead_metric(report)
    if lead is None:
        return ReportVerdict("none", say("nothing_compares"), (), (), (), None)
    standings = standings_of(report, lead)
    candidates = [it for it in standings if it.row.role == "candidate"]
    outcome = _outcome(report.verdict, candidates)
    if not candidates:
        return ReportVerdict(outcome, say("no_candidates"), (), (), tuple(standings), lead)
    best = candidates[0]
    headline = say(f"headline_{outcome}", name=best.row.name)
    suspects = [*_damage(report), *_broken(layers), *_outliers(report, candidates, lead)]
    return ReportVerdict(
        outcome, headline, tuple(_reasons(report, candidates, lead)), tuple(suspects), tuple(standings), lead
    )


def overall_text(report: CompareReport, metric: str, overall: Overall) -> Sentence | str:
    """`50.8 dB (50.2 to 51.3)`, or that it is identical."""
    if overall.mean is None:
        return say("identical")
    return _with_interval(report.metrics[metric], overall.mean, overall.interval)


def _with_interval(info: MetricInfo, mean: float, interval: Sequence[float] | None) -> Sentence | str:
    if interval is None:
        return info.text(mean)
    low, high = (info.text(bound, with_unit=False) for bound in interval)
    return say("with_interval", mean=info.text(mean), low=low, high=high)


def _outcome(verdict: Verdict, candidates: Sequence[Standing]) -> Outcome:
    if verdict == "no gate":
        return "closest"
    return "ship" if any(not it.failed for it in candidates) else "none"


def _reasons(report: CompareReport, candidates: Sequence[Standing], lead: str) -> list[Sentence]:
    best, *others = candidates
    label = report.metrics[lead].label
    reasons = [
        say("figure", label=label, figure=overall_text(report, lead, best.overall), count=str(len(report.videos)))
    ]
    floor = floor_of(report)
    if best.to_floor is not None and floor is not None:
        key = "above_floor" if best.to_floor.mean >= 0 else "below_floor"
        reasons.append(say(key, gap=_gap_text(report, lead, best.to_floor), floor=floor.name))
    elif floor is None:
        reasons.append(say("no_floor"))
    if best.failed:
        reasons += [say("said", text=gate.sentence) for gate in best.failed]
        return reasons
    if best.passed:
        reasons.append(say("all_gates", count=str(len(best.passed))))
    elif report.verdict == "no gate":
        reasons.append(say("no_gate"))
    rival = next((it for it in others if not it.failed), None)
    if rival is not None and (lead_over := gap(report, best.row, rival.row, lead)) is not None:
        key = "ahead" if lead_over.is_certain else "tied"
        reasons.append(say(key, gap=_gap_text(report, lead, lead_over), rival=rival.row.name))
    reasons += [say("not_this", name=it.row.name, why=it.failed[0].sentence) for it in others if it.failed]
    return reasons


def _gap_text(report: CompareReport, lead: str, found: Gap) -> Sentence | str:
    sign = 1 if found.mean >= 0 else -1
    bounds = None if found.interval is None else sorted(sign * bound for bound in found.interval)
    return _with_interval(report.metrics[lead], abs(found.mean), bounds)


def _damage(report: CompareReport) -> list[Sentence]:
    """What is wrong regardless of the figures."""
    found = []
    for row in (report.reference, *report.rows):
        if row.provenance is not None and row.provenance.altered:
            found.append(say("altered", name=row.name, files=", ".join(row.provenance.altered)))
        if row.role == "candidate" and row.identical_videos == len(row.videos):
            found.append(say("all_identical", name=row.name))
    return found


def _broken(layers: Mapping[str, LayersReport]) -> list[Sentence]:
    """The layers of every candidate that are probably broken."""
    return [say("broken", name=name, text=it.sentence) for name, found in layers.items() for it in found.suspects]


def _outliers(report: CompareReport, candidates: Sequence[Standing], lead: str) -> list[Sentence]:
    """Videos of passing candidates whose PSNR is far below that of the others in their row."""
    if lead != "psnr":
        return []
    found = []
    for standing in candidates:
        finite = finite_figures(standing.row.videos, lead)
        if len(finite) < 3 or standing.failed:
            continue
        worst, middle = min(finite, key=finite.__getitem__), median(finite.values())
        if 10 ** ((middle - finite[worst]) / 20) > OUTSTANDING:
            found.append(say("outlier", name=standing.row.name, video=worst, gap=f"{middle - finite[worst]:.1f} dB"))
    return found
