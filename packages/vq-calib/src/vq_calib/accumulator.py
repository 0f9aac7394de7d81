"""Statistics of the inputs of one transformer's groups, summed up on the device until they are taken to the host."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vq_calib.reduction import Reduce
from vq_core.artifacts.stats import BRANCHES
from vq_core.statistics import all_statistics
from vq_core.topology import Group


class Accumulator:
    """Adds up calls by group and guidance branch. It holds 28 bytes a channel and branch, and no activation."""

    def __init__(self, groups: Sequence[Group], reduce: Reduce) -> None:
        self._groups = groups
        self._reduce = reduce
        self._statistics = all_statistics()
        self._sums: dict[tuple[str, int], dict[str, Tensor]] = {}
        self._tokens: dict[tuple[str, int], int] = {}

    def add(self, group: str, branch: int, x: Tensor) -> None:
        """Add one call's input `x` `[..., in]` of `group`."""
        key = (group, branch)
        rows = x.reshape(-1, x.shape[-1])
        sums = self._reduce(rows)
        if before := self._sums.get(key):
            sums = {name: statistic.merge(before[name], sums[name]) for name, statistic in self._statistics.items()}
        self._sums[key] = sums
        self._tokens[key] = self._tokens.get(key, 0) + len(rows)

    def non_finite(self) -> str | None:
        """The first group that has read NaN or Inf, in the order of the groups. Waits for the device once."""
        values = [(group, value) for (group, _), sums in self._sums.items() for value in sums.values()]
        if not values:
            return None
        finite = torch.stack([value.isfinite().all() for _, value in values]).tolist()
        groups = {group for (group, _), good in zip(values, finite, strict=True) if not good}
        return next((group.name for group in self._groups if group.name in groups), None)

    def take(self) -> dict[str, Tensor]:
        """What was added since the last `take`, on the host; the device memory is free again.

        Returns:
            `GROUP.STATISTIC` `[branches, in]` for every statistic and `GROUP.count` int64 `[branches]`, in the order
            of the groups; zeros where nothing was added.
        """
        taken: dict[str, Tensor] = {}
        for group in self._groups:
            for name, statistic in self._statistics.items():
                total = torch.zeros(len(BRANCHES), group.in_features, dtype=statistic.DTYPE)
                for branch in range(len(BRANCHES)):
                    if sums := self._sums.get((group.name, branch)):
                        total[branch] = sums[name]
                taken[f"{group.name}.{name}"] = total
            counts = [self._tokens.get((group.name, branch), 0) for branch in range(len(BRANCHES))]
            taken[f"{group.name}.count"] = torch.tensor(counts)
        self._sums.clear()
        self._tokens.clear()
        return taken
