"""Readable tables of what an artifact says was decided."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from vq_core.artifacts import qparams
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.manifest import kind_of


def smoothing_rows(smoothed: SmoothedWeights) -> dict[str, str]:
    """One line of summary per component of a smoothed-weights artifact."""
    rows = {}
    for name in smoothed.components:
        decisions = smoothed.decisions(name).values()
        changed = sum(not entry["s_min"] == entry["s_max"] == 1 for entry in decisions)
        spread = max((entry["s_max"] / entry["s_min"] for entry in decisions), default=1.0)
        rows[name] = f"{changed} of {len(decisions)} groups smoothed, largest ratio of s within one {spread:.3g}"
    return rows


def rounding_rows(quantized: QuantParams) -> dict[str, str]:
    """One line of summary per component of a quant-params artifact."""
    rows = {}
    for name in quantized.artifact.manifest.components:
        decisions = quantized.decisions(name)
        snr = {linear: entry["weight_snr_db"] for linear, entry in decisions.items()}
        inexact = {linear: value for linear, value in snr.items() if value is not None}
        rows[name] = f"{len(snr)} linears, {len(snr) - len(inexact)} of them exact"
        if inexact:
            worst = min(inexact, key=inexact.__getitem__)
            middle = median(inexact.values())
            rows[name] = (
                f"{len(snr)} linears, weight SNR median {middle:.1f} dB, lowest {inexact[worst]:.1f} dB ({worst})"
            )
    return rows


def show(path: Path, *, every: bool, as_json: bool) -> None:
    """Print the decisions in the artifact `path`: by place in the block, or with `every` one row each.

    Raises:
        VqError: `path` is neither smoothed weights nor quant params, or is damaged.
    """
    artifact: SmoothedWeights | QuantParams
    artifact = open_qparams(path) if kind_of(path) == qparams.KIND else open_weights(path)
    decisions = {name: artifact.decisions(name) for name in artifact.artifact.manifest.components}
    if as_json:
        print(json.dumps({"settings": artifact.artifact.manifest.settings, "decisions": decisions}, indent=2))
        return
    console = Console()
    for name, entries in decisions.items():
        rows = entries if every else _by_place(entries)
        what = "linear" if artifact.artifact.manifest.kind == qparams.KIND else "group"
        console.print(f"{path}: {name}", style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(_table(what, rows))


def _by_place(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Decisions of the same place in all blocks as one row: the median of each number, or the value they share."""
    places: dict[str, list[dict[str, Any]]] = {}
    for name, entry in entries.items():
        places.setdefault(re.sub(r"blocks\.\d+\.", "", name), []).append(entry)
    return {
        place: {key: _together(entry[key] for entry in members) for key in members[0]}
        for place, members in places.items()
    }


def _together(values: Iterable[Any]) -> Any:
    values = list(values)
    if numbers := [value for value in values if isinstance(value, float)]:
        return median(numbers)
    return values[0] if len(set(values)) == 1 else "various"


def _table(what: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table()
    table.add_column(what)
    columns = list(next(iter(rows.values()), {}))
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, entry in rows.items():
        table.add_row(name, *(_cell(entry[column]) for column in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "exact"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
