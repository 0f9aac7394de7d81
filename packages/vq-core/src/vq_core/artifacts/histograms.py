"""Histograms over the tokens of an input, in half octaves: bin b holds values v with b ≤ 2·log2(v / lowest) < b + 1.

Two quantities of each token (row) x_t: its absmax, max_k |x_tk|, and its crest, absmax over root mean square, which
is 1 for a flat row and √in for one that is a single spike. Values outside the bins are counted in the outermost ones;
a row of zeros has absmax bin 0 and crest bin 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HalfOctaves:
    """Bins over the values from 2^`low` to 2^`high`."""

    low: int
    high: int

    @property
    def bins(self) -> int:
        """How many there are."""
        return 2 * (self.high - self.low)

    def bin_of_square(self, square: Tensor) -> Tensor:
        """Bin of every value whose square is in `square`, fp32 and not negative; int32 of the same shape.

        A half octave of v is an octave of v²: the bin is the exponent of v² in its binary representation.
        """
        exponent = (square.view(torch.int32) >> 23) - 127
        return (exponent - 2 * self.low).clamp(0, self.bins - 1)

    def upper_edge(self, index: int) -> float:
        """The value at which bin `index` ends."""
        return float(2.0 ** (self.low + (index + 1) / 2))

    def quantile(self, counts: Tensor, q: float) -> float | None:
        """Upper edge of the bin that the `q`-quantile lies in; None without counts.

        Args:
            counts: int64 `[bins]`.
            q: share of the tokens, 0 to 1.
        """
        total = int(counts.sum())
        if not total:
            return None
        reached = counts.cumsum(0).double() >= q * total
        return self.upper_edge(int(reached.int().argmax()))


HISTOGRAMS = {"absmax": HalfOctaves(-16, 16), "crest": HalfOctaves(0, 8)}
