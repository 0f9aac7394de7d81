"""A heat map of SNRs: blocks across, linears or groups down."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vq_algos.show import open_decided
from vq_core.errors import VqError
from vq_core.files.tensor_file import publish
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_output
from vq_core.topology import block_of, place_of

FIGURES = {"output_snr_db": "output SNR on held-out tokens, dB", "weight_snr_db": "weight SNR, dB"}


def draw_heat_map(path: Location, picture: Location) -> None:
    """Write the heat map of the artifact `path`, one panel per transformer, to the PNG `picture`.

    It shows the output SNR if that was measured, else the weight SNR.

    Raises:
        VqError: matplotlib is not installed; `picture` exists or is no PNG; the artifact has neither figure.
    """
    if not picture.name.lower().endswith(".png"):
        raise VqError(f"{picture} should be a picture: end it in .png.")
    with local_output(picture, option="--heat-map") as here:
        artifact = open_decided(path)
        tables = {name: table_of(artifact.decisions(name)) for name in artifact.artifact.manifest.components}
        if missing := [name for name, (_, cells) in tables.items() if not cells]:
            raise VqError(
                f"{path} has no figures for {missing[0]}: "
                "make it with --stats and --scheme, from statistics with tokens."
            )
        _draw(tables, here)


def table_of(decisions: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, dict[int, float]]]:
    """Name of the figure, and its value by place and block; groups outside the blocks are left out."""
    for figure in FIGURES:
        cells: dict[str, dict[int, float]] = {}
        for name, entry in decisions.items():
            block, value = block_of(name), entry.get(figure)
            if block is not None and value is not None:
                cells.setdefault(place_of(name), {})[block] = value
        if cells:
            return figure, cells
    return next(iter(FIGURES)), {}


def _draw(tables: Mapping[str, tuple[str, dict[str, dict[int, float]]]], picture: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise VqError("Pictures need matplotlib: `pip install vq-algos[plot]`.") from None
    rows = max(len(cells) for _, cells in tables.values())
    blocks = 1 + max(block for _, cells in tables.values() for row in cells.values() for block in row)
    figure = Figure(figsize=(4 + 0.25 * blocks, (1.5 + 0.3 * rows) * len(tables)), dpi=120, layout="constrained")
    for axes, (name, (what, cells)) in zip(
        figure.subplots(len(tables), squeeze=False)[:, 0], tables.items(), strict=True
    ):
        values = [[row.get(block, float("nan")) for block in range(blocks)] for row in cells.values()]
        image = axes.imshow(values, aspect="auto", cmap="RdYlGn", interpolation="nearest")
        axes.set_yticks(range(len(cells)), list(cells))
        axes.set_xlabel("block")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(name)
        figure.colorbar(image, ax=axes, label=FIGURES[what])
    draft = picture.with_name(f".{picture.name}.tmp")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(draft, format="png")
    publish(draft, picture)
