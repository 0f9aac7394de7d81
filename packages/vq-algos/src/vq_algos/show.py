"""Tables of the decisions that an artifact records."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from vq_core.artifacts import qparams
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.numerics.scheme import FP8, ROUNDING_NOTE, Rounding, schemes_named
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.runtime.terminal import new_console
from vq_core.store.manifest import FILE_NAME, kind_of
from vq_core.topology import place_of

MIN_WIDTH = 150  # columns of the terminal
SHOWN = 4  # names in a line
Entries = Mapping[str, Mapping[str, Any]]


def smoothing_rows(smoothed: SmoothedWeights) -> dict[str, str]:
    """One line of summary per component of a smoothed-weights artifact."""
    rows = {}
    for name in smoothed.components:
        decisions = smoothed.decisions(name)
        changed = sum(not entry["s_min"] == entry["s_max"] == 1 for entry in decisions.values())
        spread = max((entry["s_max"] / entry["s_min"] for entry in decisions.values()), default=1.0)
        rows[name] = f"{changed} of {len(decisions)} groups smoothed, largest ratio of s within one {spread:.3g}"
        if after := _of(decisions, "output_snr_db"):
            before = _of(decisions, "unsmoothed_snr_db")
            rows[name] += f"; {_held_out(after, before, 'unsmoothed')}"
    return rows


def rounding_rows(quantized: QuantParams) -> dict[str, str]:
    """The lines of the summary of a quant-params artifact."""
    rows = {}
    for name in quantized.artifact.manifest.components:
        every = quantized.decisions(name)
        decisions = {linear: entry for linear, entry in every.items() if "kept" not in entry}
        inexact = _of(decisions, "weight_snr_db")
        quality = f"{len(decisions) - len(inexact)} of them exact"
        if after := _of(decisions, "output_snr_db"):
            quality = _held_out(after, _of(decisions, "rtn_output_snr_db"), "to nearest")
        elif inexact:
            worst = min(inexact, key=inexact.__getitem__)
            middle = median(inexact.values())
            quality = f"weight SNR median {middle:.1f} dB, lowest {inexact[worst]:.1f} dB ({worst})"
        rows[name] = f"{len(decisions)} linears, {quality}"
        if schemes := Counter(entry["scheme"] for entry in decisions.values() if "scheme" in entry):
            rows[f"{name} schemes"] = ", ".join(f"{scheme} for {count}" for scheme, count in schemes.most_common())
        if rotated := sum("rotation" in entry for entry in decisions.values()):
            rows[f"{name} inputs"] = f"rotated for {rotated} of {len(decisions)} linears"
        if centered := sum("centered" in entry for entry in decisions.values()):
            rows[f"{name} means"] = f"subtracted for {centered} of {len(decisions)} linears"
        if kept := [linear for linear in every if linear not in decisions]:
            rows[f"{name} in full precision"] = f"{len(kept)} of {len(every)} linears: {', '.join(kept[:SHOWN])}" + (
                f" and {len(kept) - SHOWN} more (vq-algos show --all)" if len(kept) > SHOWN else ""
            )
        if corrected := sum(bool(entry.get("bias_corrected")) for entry in decisions.values()):
            rows[f"{name} biases"] = f"{corrected} corrected by --stats; LLMC corrects none (--no-bias-correction)"
    settings = quantized.artifact.manifest.settings
    if settings.get("rounding") == Rounding.QTORCH and FP8 in schemes_named(quantized.scheme):
        rows["rounding"] = f"qtorch: {ROUNDING_NOTE}"
    return rows


def show(path: Location, *, every: bool, as_json: bool) -> None:
    """Print the decisions in the artifact `path`: by place in the block, or with `every` one row each.

    Raises:
        VqError: `path` is neither smoothed weights nor quant params, or is damaged.
    """
    artifact = open_decided(path)
    decisions = {name: artifact.decisions(name) for name in artifact.artifact.manifest.components}
    if as_json:
        print(json.dumps({"settings": artifact.artifact.manifest.settings, "decisions": decisions}, indent=2))
        return
    console = new_console()
    console.width = max(console.width, MIN_WIDTH)  # a wrapped table can be read, a truncated number cannot
    for name, entries in decisions.items():
        what = "linear" if artifact.artifact.manifest.kind == qparams.KIND else "group"
        console.print(f"{path}: {name}", style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(_table(what, entries if every else _by_place(entries)))


def open_decided(path: Location) -> SmoothedWeights | QuantParams:
    """The artifact `path`, of either kind that holds decisions; refuses any other, and a damaged one."""
    manifest = local_copy(path, only=[FILE_NAME])
    return open_qparams(path) if kind_of(manifest) == qparams.KIND else open_weights(path)


def _of(decisions: Entries, figure: str) -> dict[str, float]:
    """The figure of every decision that has it."""
    return {name: entry[figure] for name, entry in decisions.items() if entry.get(figure) is not None}


def _held_out(after: Mapping[str, float], before: Mapping[str, float], baseline: str) -> str:
    worst = min(after, key=after.__getitem__)
    return (
        f"output SNR on held-out tokens median {median(after.values()):.1f} dB "
        f"({baseline} {median(before.values()):.1f}), lowest {after[worst]:.1f} dB ({worst})"
    )


def _by_place(entries: Entries) -> dict[str, dict[str, Any]]:
    """One row for each place in the block: the median of each number, or how often each word occurs."""
    places: dict[str, list[Mapping[str, Any]]] = {}
    for name, entry in entries.items():
        places.setdefault(place_of(name), []).append(entry)
    return {
        place: {key: _together([entry[key] for entry in members if key in entry]) for key in _keys(members)}
        for place, members in places.items()
    }


def _keys(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys of all entries, in order of first occurrence."""
    return list(dict.fromkeys(key for entry in entries for key in entry))


def _together(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(known[0], bool):
        return f"{sum(known)} of {len(known)}"
    if isinstance(known[0], list):
        return [_together(column) for column in zip(*known, strict=True)]
    if isinstance(known[0], int | float):
        return median(known)
    counts = Counter(known).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{value} {count}" for value, count in counts)


def _table(what: str, rows: Entries) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(what)
    columns = _keys(rows.values())
    for column in columns:
        table.add_column(column.removesuffix("_db").replace("_", " "), justify="right")
    for name, entry in rows.items():
        table.add_row(name, *(_cell(column, entry[column]) if column in entry else "" for column in columns))
    return table


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "exact" if column == "weight_snr_db" else "–"
    if isinstance(value, list):
        return " ".join("–" if part is None else f"{part:.0f}" for part in value)
    if isinstance(value, float):
        return f"{value:.1f}" if column.endswith("_db") else f"{value:.4g}"
    return str(value)
