"""The figures of `layers.json` from sums of powers."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vq_core.topology import block_of, place_of
from vq_eval.layers.noise_meter import POWERS, SumRow
from vq_eval.layers.schema import BucketCost, Cell, Kind, Noise, Place, Ranking

KINDS: tuple[Kind, ...] = ("linear", "block", "output")


def noise_of(signal: float, noise: float) -> Noise:
    """The error of an output from the powers of its signal and its noise."""
    if not signal:
        return Noise(snr_db=None, noise_to_signal=0.0)
    return Noise(snr_db=10 * math.log10(signal / noise) if noise else None, noise_to_signal=noise / signal)


def places_of(rows: Iterable[SumRow]) -> tuple[Place, ...]:
    """Figures of every place over all its `rows`, from any number of prompts: powers are summed, then divided."""
    gathered: dict[tuple[str, Kind, str], dict[tuple[int, str], list[SumRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        gathered[row.component, row.kind, row.name][row.bucket, row.branch].append(row)
    cells = {
        place: {where: _total(summed) for where, summed in sorted(of_place.items())}
        for place, of_place in gathered.items()
    }
    places = sorted(cells, key=lambda place: KINDS.index(place[1]))  # stable: the order of the topology within a kind
    totals = {place: _total(list(cells[place].values())) for place in places}
    ratios = {place: noise_of(row.own_signal, row.own).noise_to_signal for place, row in totals.items()}
    sums = {kind: sum(ratio for (_, of, _), ratio in ratios.items() if of == kind) for kind in KINDS}
    return tuple(_place(totals[place], cells[place], ratios[place], sums[place[1]]) for place in places)


def _total(rows: Sequence[SumRow]) -> SumRow:
    return rows[0].model_copy(update={power: sum(getattr(row, power) for row in rows) for power in POWERS})


def _place(total: SumRow, cells: Mapping[tuple[int, str], SumRow], ratio: float, sum_of_kind: float) -> Place:
    share = ratio / sum_of_kind if sum_of_kind else 0.0
    return Place(
        component=total.component,
        kind=total.kind,
        name=total.name,
        block=block_of(f"{total.name}."),
        place=place_of(total.name) if total.kind == "linear" else "",
        own=_own(total),
        in_place=noise_of(total.signal, total.in_place),
        rounding=_rounding(total),
        share=None if total.kind == "output" else share,
        cells=tuple(
            Cell(
                bucket=row.bucket,
                branch=row.branch,
                own=_own(row),
                in_place=noise_of(row.signal, row.in_place),
                rounding=_rounding(row),
            )
            for row in cells.values()
        ),
    )


def _own(row: SumRow) -> Noise | None:
    return None if row.kind == "output" else noise_of(row.own_signal, row.own)


def _rounding(row: SumRow) -> Noise | None:
    return noise_of(row.signal, row.rounding) if row.kind == "linear" else None


def full_name(place: Place) -> str:
    """`transformer.blocks.3.attn1.to_q`."""
    return f"{place.component}.{place.name}"


def ranking_of(places: Sequence[Place]) -> Ranking:
    """The most expensive linears, blocks and buckets first; equal costs keep the order of the topology."""

    def by_own(kind: Kind) -> tuple[str, ...]:
        own = {full_name(it): it.own.noise_to_signal for it in places if it.kind == kind and it.own is not None}
        return tuple(sorted(own, key=lambda name: -own[name]))

    buckets = [
        BucketCost(component=place.component, bucket=cell.bucket, branch=cell.branch, output=cell.in_place)
        for place in places
        if place.kind == "output"
        for cell in place.cells
    ]
    return Ranking(
        linears=by_own("linear"),
        blocks=by_own("block"),
        buckets=tuple(sorted(buckets, key=lambda cost: -cost.output.noise_to_signal)),
    )
