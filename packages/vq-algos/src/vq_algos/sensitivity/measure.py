"""How much each linear costs if it alone is rounded to nearest, in INT8 and in FP8.

The cost of a linear is its relative output error Σ_t w_t ‖x_t·Wᵀ − x̂_t·Ŵᵀ‖² / Σ_t w_t ‖x_t·Wᵀ‖² on held-out tokens, the
others left in full precision: what a better method for it, or leaving it in full precision, would gain at most.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from vq_algos.layer.output_error import HeldOutError, snr_db
from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import SmoothedWeights
from vq_core.numerics.quantize import dequantize, quantize_weight
from vq_core.numerics.scheme import W8A8
from vq_core.runtime.progress import progress
from vq_core.runtime.terminal import new_console
from vq_core.topology import shard_of

MIN_WIDTH = 100
LEGEND = (
    "SNR of the output on held-out tokens if that linear alone is rounded to nearest; share: of all relative errors."
)


@dataclass(frozen=True)
class Cost:
    """The cost of one linear in one scheme; SNRs are in dB, None if there is no signal or no noise.

    Attributes:
        component: its transformer.
        linear: its name.
        scheme: `int8` or `fp8`.
        relative_error: noise over signal of its output.
        output_snr_db: the same in dB.
        activation_snr_db: the SNR if only the activations are quantized.
        weight_only_snr_db: the SNR if only the weight is rounded.
    """

    component: str
    linear: str
    scheme: str
    relative_error: float
    output_snr_db: float | None
    activation_snr_db: float | None
    weight_only_snr_db: float | None


def costs(weights: SmoothedWeights, stats: ActivationStats, device: str = "cpu") -> list[Cost]:
    """Costs of every linear in every scheme, the most expensive first. Memory: one block."""
    found: list[Cost] = []
    total = sum(component.topology.num_blocks for component in weights.components.values())
    with progress("sensitivity", total, "block") as advance:
        for name, component in weights.components.items():
            inputs = SampledInputs(name, component, stats, device)
            for block in component.topology.block_shards:
                found += _costs_of_block(inputs, block)
                advance()
    return sorted(found, key=lambda cost: -cost.relative_error)


def _costs_of_block(source: SampledInputs, block: str) -> Iterator[Cost]:
    for scheme in W8A8:
        for group in source.component.topology.groups:
            linears = [linear for linear in group.reads if shard_of(linear) == block]
            held_out = source.inputs_of(group, scheme.activation).held_out if linears else None
            for linear in linears:
                assert held_out is not None
                weight = source.component.linear(linear, source.device).float()
                judge = HeldOutError(weight, held_out)
                rounded = dequantize(quantize_weight(weight, scheme.weight))
                signal, noise = judge.signal.total, judge.error(rounded).total
                yield Cost(
                    source.name,
                    linear,
                    scheme.name,
                    noise / signal if signal else 0.0,
                    snr_db(signal, noise),
                    snr_db(signal, judge.activation_error().total),
                    snr_db(signal, judge.weight_error(rounded).total),
                )


def report_costs(costs: Sequence[Cost], *, top: int, as_json: bool) -> None:
    """Print the `top` most expensive linears of each scheme."""
    if as_json:
        print(json.dumps({"costs": [asdict(cost) for cost in costs]}, indent=1))
        return
    console = new_console(markup=False, highlight=False)
    console.width = max(console.width, MIN_WIDTH)
    for scheme in (it.name for it in W8A8):
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
