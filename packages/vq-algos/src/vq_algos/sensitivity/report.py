"""The costs of linears as a table, or as JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from vq_algos.sensitivity.measure import Cost
from vq_core.numerics.scheme import SCHEMES

MIN_WIDTH = 100
LEGEND = "Of outputs on held-out tokens, where that linear alone is rounded to nearest; share: of all relative errors."


def report_costs(costs: Sequence[Cost], *, top: int, as_json: bool) -> None:
    """Print the `top` most expensive linears of each scheme."""
    if as_json:
        print(json.dumps({"costs": [asdict(cost) for cost in costs]}, indent=1))
        return
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, MIN_WIDTH)
    for scheme in SCHEMES:
        of_scheme = [cost for cost in costs if cost.scheme == scheme]
        total = sum(cost.relative_error for cost in of_scheme)
        console.print(_table(scheme, of_scheme[:top], len(of_scheme), total))
    console.print(LEGEND)


def _table(scheme: str, costs: Sequence[Cost], of: int, total: float) -> Table:
    table = Table(title=f"{scheme}: {len(costs)} of {of} linears", title_justify="left", box=None, pad_edge=False)
    table.add_column("linear")
    for column in ("share", "SNR dB", "activations only", "weight only"):
        table.add_column(column, justify="right")
    for cost in costs:
        share = f"{100 * cost.relative_error / total:.1f} %" if total else "–"
        snrs = (cost.output_snr_db, cost.activation_snr_db, cost.weight_only_snr_db)
        table.add_row(f"{cost.component}.{cost.linear}", share, *("–" if snr is None else f"{snr:.1f}" for snr in snrs))
    return table
