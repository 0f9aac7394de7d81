"""SNRs of many linears, summed up by their place in a block."""

import math
from collections.abc import Mapping
from statistics import median

from vq_core.topology import block_of, place_of


def by_place(snrs: Mapping[str, float | None]) -> dict[str, str]:
    """By place in the block, the median of its linears' SNRs in dB and the lowest; None: the codes are exact."""
    places: dict[str, dict[str, float]] = {}
    for linear, snr in snrs.items():
        place = place_of(linear)
        places.setdefault(place, {})[linear] = math.inf if snr is None else snr
    return {place: _summary(by_linear) for place, by_linear in places.items()}


def _summary(by_linear: Mapping[str, float]) -> str:
    lowest = min(by_linear, key=by_linear.__getitem__)
    return f"SNR {median(by_linear.values()):.1f} dB, lowest {by_linear[lowest]:.1f} dB (block {block_of(lowest)})"
