"""Places that are so much worse than expected that they are probably broken.

A linear is compared with two figures: the cost of rounding the model's own weight to nearest on the same inputs, less
what smoothing gains on that in the other blocks; and the same linear of the other blocks. Blocks differ, so a suspect
falls short of both. See docs/formats/layers.md.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from vq_core.topology import NormSink, Topology
from vq_eval.layers.schema import Noise, Place, Suspect

LINEAR_MARGIN_DB = 6.0
IN_PLACE_MARGIN_DB = 10.0
BLOCK_MARGIN_DB = 10.0


def find_suspects(places: Sequence[Place], topologies: Mapping[str, Topology]) -> tuple[Suspect, ...]:
    """The suspects among `places`, the furthest below what is expected first."""
    found: list[Suspect] = []
    for component, topology in topologies.items():
        ours = [place for place in places if place.component == component]
        linears = {place.name: place for place in ours if place.kind == "linear"}
        blocks = [place for place in ours if place.kind == "block"]
        short = _linears_below(list(linears.values()))
        found += _linear_suspects(component, topology, linears, short)
        if not short:  # behind a broken linear everything is worse in place
            found += _norm_suspects(component, topology, linears)
        found += _block_suspects(component, blocks, [*short, *(name for it in found for name in it.linears)])
        found += _condition_suspects(component, topology, linears)
    return tuple(sorted(found, key=_shortfall, reverse=True))


def _shortfall(suspect: Suspect) -> float:
    return suspect.expected_db - (-math.inf if suspect.snr_db is None else suspect.snr_db)


def _db(noise: Noise | None) -> float:
    """SNR in dB, infinite where there is no noise (or nothing at all)."""
    return math.inf if noise is None or noise.snr_db is None else noise.snr_db


def _linears_below(linears: Sequence[Place]) -> dict[str, float]:
    """Linears that fall short by the margin, with the SNR expected of each in dB."""
    by_place: dict[str, list[Place]] = defaultdict(list)
    for linear in linears:
        by_place[linear.place].append(linear)
    below = {}
    for linear in linears:
        expected = _expected(linear, [other for other in by_place[linear.place] if other is not linear])
        if _db(linear.own) < expected - LINEAR_MARGIN_DB:
            below[linear.name] = expected
    return below


def _expected(linear: Place, others: Sequence[Place]) -> float:
    rounding = _db(linear.rounding)
    comparable = [it for it in others if math.isfinite(_db(it.own)) and math.isfinite(_db(it.rounding))]
    if not comparable or not math.isfinite(rounding):
        return rounding if math.isfinite(rounding) else -math.inf
    gained = median(_db(it.own) - _db(it.rounding) for it in comparable)
    return min(median(_db(it.own) for it in comparable), rounding + max(gained, 0.0))


def _linear_suspects(
    component: str, topology: Topology, linears: Mapping[str, Place], below: Mapping[str, float]
) -> list[Suspect]:
    suspects = []
    for name in below:
        group = topology.group_of(name)
        together = tuple(it for it in group.reads if it in below)
        whole = len(group.reads) > 1 and len(together) == len(group.reads)
        if whole and name != together[0]:
            continue
        worst = min(together, key=lambda it: _db(linears[it].own)) if whole else name
        snr, expected = _db(linears[worst].own), below[worst]
        what = f"The input of {', '.join(together)}" if whole else name
        cause = (
            "what they read is multiplied by a wrong gain, or all of them are damaged"
            if whole
            else "its codes, scale, bias or gain are damaged or another linear's, or smoothing harms it"
        )
        suspects.append(
            Suspect(
                component=component,
                kind="group" if whole else "linear",
                name=group.name if whole else name,
                linears=together if whole else (name,),
                snr_db=snr,
                expected_db=expected,
                sentence=f"{what} in {component}: {snr:.1f} dB where {expected:.1f} dB are expected; {cause}.",
            )
        )
    return suspects


def _norm_suspects(component: str, topology: Topology, linears: Mapping[str, Place]) -> list[Suspect]:
    """The first block whose affine norm feeds a linear far worse than the linear itself is, against other blocks.

    Blocks behind it inherit the error, so they are no suspects.
    """
    readers = [
        linears[name]
        for group in topology.groups
        if isinstance(group.sink, NormSink) and group.sequence == "video"
        for name in group.reads
        if name in linears
    ]
    lost = {it.name: _db(it.own) - _db(it.in_place) for it in readers if math.isfinite(_db(it.own))}
    for name, drop in lost.items():
        others = [other for other_name, other in lost.items() if other_name != name]
        if not others or drop < median(others) + IN_PLACE_MARGIN_DB:
            continue
        snr, expected = _db(linears[name].in_place), _db(linears[name].own) - median(others)
        return [
            Suspect(
                component=component,
                kind="group",
                name=topology.group_of(name).name,
                linears=(name,),
                snr_db=snr,
                expected_db=expected,
                sentence=f"The input of {name} in {component}: {snr:.1f} dB in place where {expected:.1f} dB are "
                "expected, though the linear itself is sound; the norm before it, or what is folded there, is damaged.",
            )
        ]
    return []


def _block_suspects(component: str, blocks: Sequence[Place], accused: Collection[str]) -> list[Suspect]:
    suspects = []
    for block in blocks:
        others = [_db(other.own) for other in blocks if other is not block and math.isfinite(_db(other.own))]
        if not others or any(name.startswith(f"{block.name}.") for name in accused):
            continue
        snr, expected = _db(block.own), median(others)
        if snr < expected - BLOCK_MARGIN_DB:
            suspects.append(
                Suspect(
                    component=component,
                    kind="block",
                    name=block.name,
                    linears=(),
                    snr_db=snr,
                    expected_db=expected,
                    sentence=f"{block.name} in {component}: {snr:.1f} dB where the other blocks have {expected:.1f} dB "
                    "and none of its linears is to blame; its norms, or what is folded into them, are damaged.",
                )
            )
    return suspects


def _condition_suspects(component: str, topology: Topology, linears: Mapping[str, Place]) -> list[Suspect]:
    """The readers of the embedded text or image are the first that are quantized: in place they should err as alone."""
    suspects = []
    for group in topology.groups:
        readers = [linears[name] for name in group.reads if name in linears]
        if group.sequence == "video" or not readers:
            continue
        worst = max(readers, key=lambda it: _db(it.own) - _db(it.in_place))
        snr, expected = _db(worst.in_place), _db(worst.own)
        if math.isfinite(expected) and snr < expected - LINEAR_MARGIN_DB:
            suspects.append(
                Suspect(
                    component=component,
                    kind="condition",
                    name=group.name,
                    linears=group.reads,
                    snr_db=snr,
                    expected_db=expected,
                    sentence=f"The embedded {group.sequence} in {component}: {worst.name} has {snr:.1f} dB in place "
                    f"and {expected:.1f} dB on its own; what smoothing folds into the embedder is damaged.",
                )
            )
    return suspects
