"""Tables of tokens, int64 `[n, 6]` with the columns `TABLE_COLUMNS`, and the bottom-k choice among them.

A stratum is a bucket of sigma and a guidance branch; a choice keeps the k smallest keys of each stratum. Choosing again
from what was chosen in each part gives the choice from all tokens, so parts merge to exactly the whole run's choice.
"""

import torch
from torch import Tensor

from vq_core.artifacts.stats import TABLE_COLUMNS

KEY_BITS = 63  # bits of the hash in a key, so that keys are not negative as int64


def column(table: Tensor, name: str) -> Tensor:
    """One column of `table`, `[n]`."""
    return table[:, TABLE_COLUMNS.index(name)]


def table_of(rows: int, **columns: int | Tensor) -> Tensor:
    """A table of `rows` tokens; a number fills its whole column."""
    table = torch.empty(rows, len(TABLE_COLUMNS), dtype=torch.int64)
    for name, value in columns.items():
        column(table, name)[:] = value
    return table


def smallest(table: Tensor, k: int) -> Tensor:
    """Indices into `table` of the tokens with the `k` smallest keys of each stratum, in canonical order.

    The order is lexicographic by `TABLE_COLUMNS`: by stratum, then by key, then by the position of the token.
    """
    order = torch.arange(len(table))
    for name in reversed(TABLE_COLUMNS):
        order = order[column(table, name)[order].argsort(stable=True)]
    ordered = table[order]
    strata = column(ordered, "bucket") * 2 + column(ordered, "branch")
    _, sizes = strata.unique_consecutive(return_counts=True)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return order[torch.arange(len(order)) - first < k]
