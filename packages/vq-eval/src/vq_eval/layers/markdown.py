"""The figures of `layers.json` as tables, in Markdown and on the console."""

from collections.abc import Sequence

from rich.table import Table

from vq_core.runtime.terminal import new_console
from vq_core.sampling.schedule import BUCKETS
from vq_eval.layers.figures import full_name
from vq_eval.layers.schema import Gain, LayersReport, Noise, Place

WORST = 20
MIN_WIDTH = 110

LINEAR_HEAD = ("linear", "share", "own dB", "rounded dB", "in place dB", "worst sigma")
BLOCK_HEAD = ("block", "share", "own dB", "in place dB", "worst sigma")
BUCKET_HEAD = ("transformer", "sigma", "branch", "output dB")
GAIN_HEAD = ("in full precision", "added", "latent error", "cosine", "PSNR dB")

FOOTNOTE = (
    "Own: with full precision's input; rounded: the model's own weight, unsmoothed, to nearest, on the same input; in "
    "place: inside the quantized transformer, with what the places before it did. Share: of the own noise-to-signal "
    "ratios of all linears, or blocks. Output: error of the transformer's prediction from the exact latent."
)

_TableRows = list[tuple[str, ...]]


def tables_of(report: LayersReport) -> list[tuple[str, tuple[str, ...], _TableRows]]:
    """Title, head and rows of every table, the most expensive first."""
    by_name = {full_name(place): place for place in report.places}
    linears = [by_name[name] for name in report.ranking.linears]
    blocks = [by_name[name] for name in report.ranking.blocks]
    tables: list[tuple[str, tuple[str, ...], _TableRows]] = [
        (_title("linears", linears), LINEAR_HEAD, [_linear_row(place) for place in linears[:WORST]]),
        (_title("blocks", blocks), BLOCK_HEAD, [_block_row(place) for place in blocks[:WORST]]),
        (
            "Noise levels",
            BUCKET_HEAD,
            [(cost.component, _sigma(cost.bucket), cost.branch, _db(cost.output)) for cost in report.ranking.buckets],
        ),
    ]
    if report.sensitivity is not None:
        rows = [_gain_row(row) for row in report.sensitivity.rows]
        tables.append((f"The worst {report.sensitivity.unit} in full precision", GAIN_HEAD, rows))
    return tables


def to_markdown(report: LayersReport) -> str:
    """The whole report."""
    how = f"{len(report.prompts)} prompts, {report.steps} steps"
    lines = [
        "# Layers",
        "",
        f"`{report.qparams.path}` ({report.scheme}) of `{report.model}`: {how}.",
        "",
        "## Suspects",
        "",
        *([f"* {suspect.sentence}" for suspect in report.suspects] or ["None."]),
    ]
    for title, head, rows in tables_of(report):
        lines += ["", f"## {title}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows)]
    return "\n".join([*lines, "", FOOTNOTE]) + "\n"


def print_layers(report: LayersReport) -> None:
    """Print the tables and the suspects."""
    console = new_console(markup=False, highlight=False)
    console.width = max(console.width, MIN_WIDTH)
    for title, head, rows in tables_of(report):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(head):
            table.add_column(column, no_wrap=number == 0)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()
    for suspect in report.suspects:
        console.print(f"Suspect: {suspect.sentence}", style="red", soft_wrap=True)
    if not report.suspects:
        console.print("No suspects.", style="green")


def _title(unit: str, places: Sequence[Place]) -> str:
    return f"Worst {min(WORST, len(places))} of {len(places)} {unit}"


def _linear_row(place: Place) -> tuple[str, ...]:
    return (full_name(place), _share(place), *map(_db, (place.own, place.rounding, place.in_place)), _worst(place))


def _block_row(place: Place) -> tuple[str, ...]:
    return full_name(place), _share(place), _db(place.own), _db(place.in_place), _worst(place)


def _gain_row(gain: Gain) -> tuple[str, ...]:
    psnr = "identical" if gain.psnr_db is None else f"{gain.psnr_db:.2f}"
    added = ", ".join(gain.added) or "–"
    return str(gain.left_out), added, f"{gain.latent_error:.5f}", f"{gain.latent_cosine:.6f}", psnr


def _worst(place: Place) -> str:
    """The bucket and branch with the largest own error."""
    cell = max(place.cells, key=lambda cell: cell.own.noise_to_signal if cell.own else 0.0)
    return f"{_sigma(cell.bucket)} {cell.branch}: {_db(cell.own)}"


def _sigma(bucket: int) -> str:
    return f"{bucket / BUCKETS:.3f}–{(bucket + 1) / BUCKETS:.3f}"


def _share(place: Place) -> str:
    return f"{100 * (place.share or 0.0):.1f} %"


def _db(noise: Noise | None) -> str:
    return "–" if noise is None or noise.snr_db is None else f"{noise.snr_db:.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
