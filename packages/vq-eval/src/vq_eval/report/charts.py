"""Plots of the report as Vega-Lite specifications, which the page draws in its own colours and language.

A text that begins with `@` is a key of `words.yaml`, without its `plot_`. Colours of rows are filled in by the page,
which knows them by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from vq_eval.compare.schema import CompareReport
from vq_eval.layers.schema import LayersReport, Sensitivity
from vq_eval.record import BRANCHES
from vq_eval.report.standings import Standing
from vq_eval.trajectories.schema import Curve, TrajectoryReport

Spec = dict[str, Any]
ROW_HEIGHT = 34
CELL_HEIGHT = 22
RUNS = ("free-running", "teacher-forced")


def interval_chart(report: CompareReport, lead: str, standings: Sequence[Standing]) -> Spec:
    """The lead figure of every row with its interval; the floor's is a band behind the others."""
    info = report.metrics[lead]
    finite = [it for it in standings if it.overall.mean is not None]
    rows = []
    for it in finite:
        low, high = it.overall.interval or (it.overall.mean, it.overall.mean)
        gate = "failed" if it.failed else "passed"
        mean, worst = it.overall.mean, it.overall.worst
        rows.append({"row": it.row.name, "mean": mean, "low": low, "high": high, "worst": worst, "gate": gate})
    title = f"{info.label}, {info.unit}" if info.unit else info.label
    names = [it.row.name for it in finite]
    y = alt.Y("row:N", sort=names, title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=140))
    tooltip = [alt.Tooltip(f"{key}:Q", format=f".{info.digits}f") for key in ("mean", "low", "high", "worst")]
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, color=_row_colour(names))
    limits = [{"limit": gate.limit} for gate in report.gates if gate.metric == lead][:1]
    layers = [
        base.mark_rule(strokeWidth=3, strokeCap="round", opacity=0.45).encode(
            x=alt.X("low:Q", title=title, scale=alt.Scale(zero=False, padding=12)), x2="high:Q"
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(x="mean:Q", tooltip=[alt.Tooltip("row:N"), *tooltip]),
    ]
    if limits:
        layers.insert(0, alt.Chart(alt.Data(values=limits)).mark_rule(strokeDash=[4, 4]).encode(x="limit:Q"))
    return _finished(alt.layer(*layers), height=ROW_HEIGHT * len(rows))


def frames_chart(report: CompareReport, names: Sequence[str]) -> Spec:
    """A figure of every frame of one video.

    The page fills in `figures` (`row`, `frame`, `figure`) and moves `playhead` (`frame`).
    """
    figures, playhead = alt.NamedData("figures"), alt.NamedData("playhead")
    hover = alt.selection_point(name="hover", fields=["frame"], nearest=True, on="pointermove", empty=False)
    x = alt.X("frame:Q", title="@frame", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1, grid=False))
    y = alt.Y("figure:Q", title=None, scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("row:N"), alt.Tooltip("frame:Q"), alt.Tooltip("figure:Q", format=".4~g")]
    base = alt.Chart(figures).encode(x=x, y=y, color=_row_colour(names))
    layers = (
        alt.Chart(playhead).mark_rule(strokeWidth=2, opacity=0.5).encode(x="frame:Q"),
        base.mark_line(strokeWidth=2),
        base.mark_point(filled=True, size=50)
        .encode(opacity=alt.condition(hover, alt.value(1), alt.value(0)), tooltip=tooltip)
        .add_params(hover),
    )
    return _finished(alt.layer(*layers), height=240)


def drift_chart(trajectory: TrajectoryReport) -> Spec:
    """Relative error of the latent over the steps: of single steps (dashed), and accumulated."""
    values = [
        {"row": candidate.name, "step": step + 1, "run": run, "error": error, "sigma": trajectory.steps[step].sigma}
        for candidate in trajectory.candidates
        for run, drift in zip(RUNS, (candidate.free_running, candidate.teacher_forced), strict=True)
        for step, error in enumerate(drift.latent.relative_error)
        if error > 0
    ]
    names = [candidate.name for candidate in trajectory.candidates]
    return _finished(_over_steps(values, names, _dash("run", RUNS)), height=260)


def prediction_chart(trajectory: TrajectoryReport) -> Spec:
    """Relative error of the transformer's output at the same input, one panel for each guidance branch."""
    curves: list[tuple[str, str, Curve]] = [
        (candidate.name, branch, candidate.teacher_forced.prediction[branch])
        for candidate in trajectory.candidates
        for branch in trajectory.branches
    ]
    values = [
        {"row": name, "branch": branch, "step": step + 1, "error": error, "sigma": trajectory.steps[step].sigma}
        for name, branch, curve in curves
        for step, error in enumerate(curve.relative_error)
        if error > 0
    ]
    names = [candidate.name for candidate in trajectory.candidates]
    return _finished(_over_steps(values, names, _dash("branch", BRANCHES)), height=260)


def snr_range(layers: Iterable[LayersReport]) -> tuple[float, float]:
    """The least and the greatest own SNR of any linear in dB, so that all heat maps have the same colours."""
    found = [
        place.own.snr_db
        for it in layers
        for place in it.places
        if place.kind == "linear" and place.own is not None and place.own.snr_db is not None
    ]
    return min(found, default=0.0), max(found, default=1.0)


def heat_map(layers: LayersReport, component: str, colours: tuple[float, float]) -> Spec:
    """Own SNR of every linear, blocks from left to right; `colours` are the ends of the scale, in dB."""
    values = [
        {
            "block": place.block,
            "linear": place.place,
            "snr": place.own.snr_db,
            "in place": place.in_place.snr_db,
            "rounding": place.rounding.snr_db if place.rounding else None,
        }
        for place in layers.places
        if place.kind == "linear" and place.component == component and place.own is not None
    ]
    order = list(dict.fromkeys(str(value["linear"]) for value in values))
    tooltip: list[Any] = [alt.Tooltip("block:O"), alt.Tooltip("linear:N")]
    tooltip += [alt.Tooltip(f"{key}:Q", title=f"{key} dB", format=".1f") for key in ("snr", "in place", "rounding")]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_rect(cornerRadius=2)
        .encode(
            x=alt.X("block:O", title="@block", axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False)),
            y=alt.Y("linear:N", sort=order, title=None, axis=alt.Axis(ticks=False)),
            color=alt.Color(
                "snr:Q",
                title="SNR dB",
                scale=alt.Scale(scheme="viridis", domain=list(colours)),
                legend=alt.Legend(orient="top", gradientLength=160, gradientThickness=10),
            ),
            tooltip=tooltip,
        )
    )
    return _finished(chart, height=CELL_HEIGHT * len(order))


def sensitivity_chart(sensitivity: Sensitivity) -> Spec:
    """PSNR of the videos against how many of the worst places stay in full precision."""
    values = [
        {"left out": row.left_out, "psnr": row.psnr_db, "added": ", ".join(row.added)}
        for row in sensitivity.rows
        if row.psnr_db is not None
    ]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=True)
        .encode(
            x=alt.X("left out:Q", title=f"@left_out_{sensitivity.unit}", axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y("psnr:Q", title="PSNR, dB", scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("left out:Q"), alt.Tooltip("psnr:Q", format=".2f"), alt.Tooltip("added:N")],
        )
    )
    return _finished(chart, height=200)


def _over_steps(values: Sequence[Mapping[str, object]], names: Sequence[str], dash: alt.StrokeDash) -> alt.Chart:
    tooltip = [alt.Tooltip("row:N"), alt.Tooltip("step:Q"), alt.Tooltip("sigma:Q", format=".3f")]
    return (
        alt.Chart(alt.Data(values=list(values)))
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("step:Q", title="@step", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y(
                "error:Q", title="@relative_error", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g", tickCount=4)
            ),
            color=_row_colour(names),
            strokeDash=dash,
            tooltip=[*tooltip, alt.Tooltip("error:Q", format=".3~g")],
        )
    )


def _dash(field: str, values: Sequence[str]) -> alt.StrokeDash:
    """A solid line for the first of two `values` of `field`, a dashed one for the second."""
    scale = alt.Scale(domain=list(values), range=[[1, 0], [5, 4]])
    return alt.StrokeDash(f"{field}:N", title=None, scale=scale, legend=None)


def _row_colour(names: Sequence[str]) -> alt.Color:
    """Without a legend: the page has one for all plots."""
    return alt.Color("row:N", sort=list(names), scale=alt.Scale(domain=list(names)), legend=None)


def _finished(chart: Any, height: int) -> Spec:
    autosize = alt.AutoSizeParams(type="fit-x", contains="padding")
    spec: Spec = chart.properties(width="container", height=height, autosize=autosize).to_dict()
    spec.pop("config", None)  # colours and type are the page's
    return spec
