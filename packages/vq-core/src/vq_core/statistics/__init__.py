"""Per-channel statistics of a linear's input, one module each; a statistic's name is its module's name.

Every statistic starts from zero, reduces a run of tokens to one value per channel, and merges such values. Within one
reduction it adds in fp32 by torch's pairwise `sum`, as a norm does not: equal rows (padded text) would add up their
rounding errors. Between reductions it adds in fp64.

A sum over many calls must not depend on their order, or parts of a run could not be merged to the bits of the whole.
So whoever adds rounds the fp32 sum of each call to a multiple of `GRID` first: as long as a total stays below
2^53 · `GRID`, every fp64 addition of such multiples is exact, hence associative. That is 2^37 for Σ|x| with a grid of
2^-16; a call's sum moves by half a grid at most.
"""

from collections.abc import Mapping
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor

from vq_core.discover import load_plugin, plugin_names


class Statistic(Protocol):
    """What a statistic's module provides."""

    DTYPE: torch.dtype
    """In which it is accumulated and stored."""

    GRID: float | None
    """Spacing to which the reduction of each call is rounded before it is added; None where merging is exact anyway."""

    def reduce(self, x: Tensor) -> Tensor:
        """Tokens `[tokens, in]` → fp32 `[in]`, with operations that torch.compile fuses; eager, they copy x."""

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """The statistic of the union of two disjoint sets of tokens."""


@cache
def all_statistics() -> Mapping[str, Statistic]:
    """Every statistic by name, in a fixed order; asked for with every sum, and the folder is read once."""
    return {name: cast(Statistic, load_plugin(__name__, name)) for name in plugin_names(__name__)}
