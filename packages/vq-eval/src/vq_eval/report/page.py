"""The page: everything that the template shows, and the data that the scripts read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vq_eval.compare.schema import CompareReport, Row
from vq_eval.layers.figures import full_name
from vq_eval.layers.schema import LayersReport
from vq_eval.report import charts
from vq_eval.report.charts import Spec
from vq_eval.report.inputs import ReportInputs
from vq_eval.report.media import Clip
from vq_eval.report.provenance import Link
from vq_eval.report.verdict import ReportVerdict, overall_text
from vq_eval.report.words import Sentence, in_all_languages, say, with_code, words

COLOURS = 6
"""Of candidates, in the style sheet; a seventh has the first one's again."""
PLOT = "plot_"
"""Begins the keys of words that stand in plots, where `@frame` means `plot_frame`."""
WORST = 5
"""Linears that are named in a list."""


@dataclass(frozen=True)
class Shown:
    """A row as the page knows it.

    Attributes:
        key: what it is called in scripts and file names.
        row: of the comparison.
        colour: name of a CSS variable.
        clips: its videos, in the order of the comparison's.
    """

    key: str
    row: Row
    colour: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        inputs: what was measured.
        verdict: what follows.
        rows: the reference first, then in the order of the comparison.
        chains: provenance by the name of the row.
    """

    inputs: ReportInputs
    verdict: ReportVerdict
    rows: tuple[Shown, ...]
    chains: Mapping[str, tuple[Link, ...]]

    def html(self) -> str:
        """The page, for a folder that holds the clips, the style sheet and the scripts."""
        environment = Environment(
            loader=PackageLoader("vq_eval.report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            say=lambda key, **values: in_all_languages(say(key, **values)),
            tell=_tell,
            figure=lambda metric, value: figure_text(self.comparison, metric, value),
            overall=lambda metric, it: _tell(overall_text(self.comparison, metric, it)),
            worst_linears=worst_linears,
        )
        environment.filters["with_code"] = with_code
        shown = {shown.row.name: shown for shown in self.rows}
        return environment.get_template("index.html.j2").render(page=self, shown=shown, data=self.data())

    @property
    def comparison(self) -> CompareReport:
        """The comparison."""
        return self.inputs.comparison

    @property
    def title(self) -> str:
        """The model, where it is known."""
        provenance = self.comparison.reference.provenance
        return provenance.model if provenance is not None else self.comparison.reference.folder

    def data(self) -> dict[str, Any]:
        """What the scripts read, as JSON."""
        return {
            "rows": [
                {
                    "key": shown.key,
                    "name": shown.row.name,
                    "role": shown.row.role,
                    "colour": shown.colour,
                    "clips": [vars(clip) for clip in shown.clips],
                }
                for shown in self.rows
            ],
            "videos": [
                {"name": video.name, "frames": video.frames, "height": video.height, "width": video.width}
                for video in self.comparison.videos
            ],
            "metrics": {name: metric.model_dump() for name, metric in self.comparison.metrics.items()},
            "figures": _figures_of_frames(self.comparison),
            "best": self.verdict.best,
            "charts": self.charts(),
            "words": {key: pair for key, pair in words().items() if key.startswith(PLOT)},
        }

    def charts(self) -> dict[str, Spec]:
        """The plots by the id of their element."""
        specs: dict[str, Spec] = {}
        if self.verdict.lead is not None:
            specs["chart-interval"] = charts.interval_chart(self.comparison, self.verdict.lead, self.verdict.standings)
        specs["chart-frames"] = charts.frames_chart(self.comparison, [shown.row.name for shown in self.rows])
        if self.inputs.trajectory is not None:
            specs["chart-drift"] = charts.drift_chart(self.inputs.trajectory)
            specs["chart-prediction"] = charts.prediction_chart(self.inputs.trajectory)
        colours = charts.snr_range(self.inputs.layers.values())
        for number, layers in enumerate(self.inputs.layers.values()):
            for component in components_of(layers):
                specs[f"chart-layers-{number}-{component}"] = charts.heat_map(layers, component, colours)
            if layers.sensitivity is not None:
                specs[f"chart-sensitivity-{number}"] = charts.sensitivity_chart(layers.sensitivity)
        return specs

    @property
    def layers(self) -> list[tuple[int, str, LayersReport, list[str]]]:
        """Number, name, figures and components of each."""
        return [(number, name, it, components_of(it)) for number, (name, it) in enumerate(self.inputs.layers.items())]


def figure_text(report: CompareReport, metric: str, value: float | None) -> str:
    """A figure with the digits worth showing; `∞` where it is None."""
    return "∞" if value is None else f"{value:.{report.metrics[metric].digits}f}"


def components_of(layers: LayersReport) -> list[str]:
    """The transformers that `layers` is about."""
    return list(dict.fromkeys(place.component for place in layers.places))


def worst_linears(layers: LayersReport) -> Sequence[tuple[str, float | None, float | None]]:
    """Name, own SNR and share of the linears that cost most."""
    places = {full_name(place): place for place in layers.places}
    found = [places[name] for name in layers.ranking.linears[:WORST]]
    return [(place.name, place.own.snr_db if place.own else None, place.share) for place in found]


def _tell(sentence: Sentence | str) -> Any:
    return in_all_languages(sentence) if isinstance(sentence, Sentence) else sentence


def _figures_of_frames(report: CompareReport) -> dict[str, Any]:
    """By metric and row, the figures of every frame of every video; for metrics that have some."""
    figures: dict[str, Any] = {}
    for metric, info in report.metrics.items():
        if info.per == "video":
            continue
        rows = {
            row.name: [list(video.figures[metric].per_frame) if metric in video.figures else [] for video in row.videos]
            for row in (report.reference, *report.rows)
            if metric in row.overall
        }
        figures[metric] = rows
    return figures
