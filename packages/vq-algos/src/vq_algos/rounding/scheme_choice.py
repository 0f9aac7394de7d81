"""Which of several schemes the linears that read one input get, by their output SNR on held-out tokens.

Schemes of as many bits compete: one takes the place of another if no linear has a lower SNR then, and some a higher.
Where that leaves a linear below the SNR that is asked for, those with more bits are tried.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from torch import Tensor

from vq_core.numerics.scheme import QuantScheme


class RoundedInput(NamedTuple):
    """The linears that read one input, rounded in one scheme: their tensors, and what was decided for each."""

    tensors: Mapping[str, Tensor]
    decisions: Mapping[str, Mapping[str, Any]]

    @property
    def snrs_db(self) -> list[float]:
        """Output SNR of each linear; infinite where there is no error."""
        found = (decision["output_snr_db"] for decision in self.decisions.values())
        return [math.inf if snr is None else snr for snr in found]


def best_scheme(
    schemes: Sequence[QuantScheme], rounded: Callable[[QuantScheme], RoundedInput], min_snr_db: float | None
) -> tuple[QuantScheme, RoundedInput]:
    """The scheme among `schemes`, and the linears `rounded` in it; more bits only below `min_snr_db`, if at all."""
    by_bits = sorted(schemes, key=lambda scheme: scheme.bits)
    for _, rivals in groupby(by_bits, key=lambda scheme: scheme.bits):
        first, *others = ((scheme, rounded(scheme)) for scheme in rivals)
        best = first
        for other in others:
            best = other if _is_better(other[1].snrs_db, best[1].snrs_db) else best
        if min_snr_db is None or min(best[1].snrs_db) >= min_snr_db:
            break
    return best


def _is_better(snrs: Sequence[float], others: Sequence[float]) -> bool:
    pairs = list(zip(snrs, others, strict=True))
    return all(one >= other for one, other in pairs) and any(one > other for one, other in pairs)
