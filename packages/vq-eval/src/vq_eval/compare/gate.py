"""The gate: limits on the rows of a comparison, and the sentence for each result."""

from collections.abc import Mapping, Sequence

from vq_core.errors import GateFailed, VqError
from vq_eval.compare.compared_folders import ComparedEntry
from vq_eval.compare.limits import Limit
from vq_eval.compare.metric_choice import MetricChoice
from vq_eval.compare.schema import CompareReport, GateResult, MetricInfo, Row, Verdict, VideoInfo


def check_limits(limits: Sequence[Limit], chosen: MetricChoice, entries: Sequence[ComparedEntry]) -> None:
    """Refuse limits that cannot be applied, before anything is measured; `entries` begin with the reference.

    Raises:
        VqError: the metric is not measured, the row does not exist, or the floor or the reference has no figure.
    """
    for limit in limits:
        what = f"{limit.source} limits `{limit.metric}`"
        if limit.metric not in chosen.metrics:
            reason = chosen.unavailable.get(limit.metric, "it is not among --metrics")
            raise VqError(f"{what}, which is not measured ({reason}): measure it, or remove the limit.")
        if unknown := sorted(set(limit.rows or ()) - {entry.name for entry in entries[1:]}):
            raise VqError(f"{what} of `{unknown[0]}`, and no row has that name: correct it.")
        if limit.kind == "worse_than_floor_by" and all(entry.role != "floor" for entry in entries):
            raise VqError(f"{what} by the floor, and there is none: give one with --floor.")
        if limit.kind == "worse_than_reference_by" and chosen.metrics[limit.metric].COMPARES:
            raise VqError(
                f"{what} by the reference's figure, which does not exist, because the metric compares with the "
                "reference: use worst, mean or worse_than_floor_by."
            )


def hold(
    limits: Sequence[Limit], infos: Mapping[str, MetricInfo], rows: Sequence[Row], videos: Sequence[VideoInfo]
) -> tuple[GateResult, ...]:
    """Every limit on every row that it applies to; `rows` begin with the reference.

    No limit is kept by videos that were altered after they were made, nor against such ones.

    Raises:
        VqError: a limited metric cannot be measured on one of the videos, which would pass unchecked.
    """
    results = []
    for limit in limits:
        for video in videos:
            if reason := video.unavailable.get(limit.metric):
                raise VqError(
                    f"{limit.source} limits `{limit.metric}`, which cannot be measured on `{video.name}`: {reason}."
                )
        named = limit.rows or tuple(row.name for row in rows if row.role == "candidate")
        results += [_held(limit, infos[limit.metric], row, rows) for row in rows if row.name in named]
    return tuple(results)


def verdict_of(gates: Sequence[GateResult]) -> Verdict:
    """`failed` if any gate failed."""
    if not gates:
        return "no gate"
    return "passed" if all(gate.passed for gate in gates) else "failed"


def enforce(report: CompareReport) -> None:
    """Raise if a gate failed.

    Raises:
        GateFailed: the message names every failed figure, its row, and by how much it fails.
    """
    failures = dict.fromkeys(gate.sentence for gate in report.gates if not gate.passed)
    if failures:
        raise GateFailed(f"{'; '.join(failures)}.")


def _held(limit: Limit, info: MetricInfo, row: Row, rows: Sequence[Row]) -> GateResult:
    overall, every_video = row.overall[limit.metric], limit.kind == "worst"
    bound, rule = _bound(limit, info, rows)
    figure = overall.worst if every_video else overall.mean
    passed = _keeps(info, figure, bound)
    video = overall.worst_video if every_video else None
    which = f"{info.label} of `{row.name}`, video `{video}`," if every_video else f"Mean {info.label} of `{row.name}`"
    sentence = f"{which} is {info.text(figure)} and keeps {rule}"
    if not passed:
        sentence = f"{which} is {info.text(figure)}, {_lack(info, figure, bound)} {rule}"
        if every_video:
            figures = [it.figures[limit.metric].video for it in row.videos]
            failed = sum(not _keeps(info, it, bound) for it in figures)
            sentence += f" ({failed} of {len(figures)} videos fail)"
    if passed and (altered := _altered(limit, row, rows)):
        passed = False
        sentence = f"{altered} changed after the manifest was written, so no limit is kept: make the videos again"
    return GateResult(
        row=row.name,
        metric=limit.metric,
        statistic="worst" if every_video else "mean",
        limit=bound,
        rule=rule,
        figure=figure,
        video=video,
        passed=passed,
        sentence=sentence,
    )


def _altered(limit: Limit, row: Row, rows: Sequence[Row]) -> str:
    """The altered files that the figure comes from, such as `000.mkv of int8`; empty where there are none."""
    sources = [it for it in rows if it is row or it.role == "reference"]
    if limit.kind == "worse_than_floor_by":
        sources += [it for it in rows if it.role == "floor" and it is not row]
    named = [(it.name, it.provenance.altered) for it in sources if it.provenance is not None and it.provenance.altered]
    return " and ".join(f"{', '.join(files)} of `{name}`" for name, files in named)


def _bound(limit: Limit, info: MetricInfo, rows: Sequence[Row]) -> tuple[float | None, str]:
    """The least figure (greatest where lower is better), None for an infinite one, and the rule in words."""
    least = "at least" if info.higher_is_better else "at most"
    match limit.kind:
        case "worst":
            in_words = f"{least} {info.text(limit.value)} for every video"
            return limit.value, limit.source if limit.source.startswith("--") else in_words
        case "mean":
            return limit.value, f"{least} {info.text(limit.value)} on average"
    role = "floor" if limit.kind == "worse_than_floor_by" else "reference"
    against = next(row for row in rows if row.role == role).overall[limit.metric].mean
    rule = f"at most {info.text(limit.value)} worse than the {role}, which has {info.text(against)}"
    if against is None:
        return None, rule
    return against - limit.value if info.higher_is_better else against + limit.value, rule


def _keeps(info: MetricInfo, figure: float | None, bound: float | None) -> bool:
    return figure is None or (bound is not None and info.worse_by(figure, bound) <= 0)


def _lack(info: MetricInfo, figure: float | None, bound: float | None) -> str:
    if figure is None or bound is None:
        return "which is not"
    amount = f"{info.worse_by(figure, bound):.3g}{f' {info.unit}' if info.unit else ''}"
    return f"{amount} {'below' if info.higher_is_better else 'above'} what it should be:"
