"""Heat maps of SNR, linears × blocks, and the curve of what keeping the worst in full precision gains."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vq_eval.layers.schema import LayersReport, Noise, Place, Sensitivity
from vq_eval.trajectories.picture import save_picture

COLUMNS = (("own", "own SNR, dB"), ("in_place", "in-place SNR, dB"))


def draw_layers(report: LayersReport, picture: Path) -> None:
    """Write `picture`, a PNG: a row of panels per transformer, own and in-place SNR; suspects are framed."""
    components = list(dict.fromkeys(place.component for place in report.places))
    maps = {name: [it for it in report.places if it.component == name and it.kind == "linear"] for name in components}
    rows = max(len({place.place for place in places}) for places in maps.values())
    blocks = 1 + max(place.block or 0 for places in maps.values() for place in places)
    size = (2 * (3 + 0.22 * blocks), (1.5 + 0.3 * rows) * len(components))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    grid = figure.subplots(len(components), len(COLUMNS), squeeze=False)
    suspects = {(suspect.component, name) for suspect in report.suspects for name in suspect.linears}
    for (component, places), row in zip(maps.items(), grid, strict=True):
        for (which, label), axes in zip(COLUMNS, row, strict=True):
            _draw_map(axes, places, which, [it for it in places if (component, it.name) in suspects])
            axes.set_title(f"{component}: {label}")
            figure.colorbar(axes.images[0], ax=axes)
    save_picture(figure, picture)


def table_of(places: Sequence[Place], which: str) -> tuple[list[str], list[list[float]]]:
    """The linears' names within a block, and their SNR in dB: a row for each linear and a column for each block.

    NaN where a block has no such linear, or the linear has no error.
    """
    names = list(dict.fromkeys(place.place for place in places))
    blocks = 1 + max(place.block or 0 for place in places)
    values = [[float("nan")] * blocks for _ in names]
    for place in places:
        noise: Noise | None = getattr(place, which)
        if noise is not None and noise.snr_db is not None and place.block is not None:
            values[names.index(place.place)][place.block] = noise.snr_db
    return names, values


def _draw_map(axes: Axes, places: Sequence[Place], which: str, framed: Sequence[Place]) -> None:
    names, values = table_of(places, which)
    axes.imshow(values, aspect="auto", cmap="RdYlGn", interpolation="nearest")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("block")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place in framed:
        column, row = place.block or 0, names.index(place.place)
        axes.plot(column, row, marker="s", markersize=9, markerfacecolor="none", markeredgecolor="black")


def draw_sensitivity(sensitivity: Sensitivity, picture: Path) -> None:
    """Write `picture`, a PNG: latent error, and PSNR, against how many of the worst are left in full precision."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    counts = [row.left_out for row in sensitivity.rows]
    errors = [row.latent_error for row in sensitivity.rows]
    axes.plot(counts, errors, "o-", color="C0")
    axes.set_ylim(0, 1.1 * max(errors) or 1)
    axes.set_xlabel(f"worst {sensitivity.unit} in full precision")
    axes.set_ylabel("relative error of the last latent", color="C0")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, alpha=0.25)
    right = axes.twinx()
    right.plot(counts, [row.psnr_db or float("nan") for row in sensitivity.rows], "s--", color="C1")
    right.set_ylabel("PSNR, dB", color="C1")
    save_picture(figure, picture)
