"""Statistics of the inputs of one transformer's groups, summed on the device until they move to the host."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vq_calib.observing.outliers import highest, no_outliers, outlier_keys
from vq_calib.observing.reduction import Reduction
from vq_core.artifacts.sums import merge_sums, zero_sums
from vq_core.topology import Group


class Accumulator:
    """Adds up calls by group and guidance branch.

    It holds 28 bytes for each channel and branch, and of each input that reads the video the 64 rows of highest absmax.
    """

    def __init__(self, groups: Sequence[Group], reduction: Reduction) -> None:
        self._groups = groups
        self._reduction = reduction
        self._sums: dict[tuple[str, int], dict[str, Tensor]] = {}
        self._outliers: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, group: Group, branch: int, x: Tensor, hashes: Tensor) -> None:
        """Add one call's input.

        Args:
            group: the group that reads it.
            branch: index in `BRANCHES`.
            x: `[tokens, in]`.
            hashes: int64 `[tokens]`, which break ties among the rows of highest absmax; unused unless `group` reads
                the video.
        """
        rows = self._reduction.rows(x)
        now = self._reduction.channels(x) | {
            "absmax_histogram": rows.absmax_histogram,
            "crest_histogram": rows.crest_histogram,
            "count": torch.tensor(len(x)),
            "non_finite": rows.non_finite,
        }
        before = self._sums.get((group.name, branch))
        self._sums[group.name, branch] = now if before is None else merge_sums(before, now)
        if group.sequence == "video":
            self._add_outliers(group.name, x, outlier_keys(rows.absmax, hashes))

    def _add_outliers(self, group: str, x: Tensor, keys: Tensor) -> None:
        here = highest(keys, x)
        if before := self._outliers.get(group):
            here = highest(torch.cat([before[0], here[0]]), torch.cat([before[1], here[1]]))
        self._outliers[group] = here

    def non_finite(self) -> tuple[Group, int] | None:
        """The first of the groups that has read NaN or Inf, and in how many rows; None if none has.

        Waits for the device once.
        """
        if not self._sums:
            return None
        rows: dict[str, int] = {}
        counts = torch.stack([sums["non_finite"] for sums in self._sums.values()]).tolist()
        for (group, _), count in zip(self._sums, counts, strict=True):
            rows[group] = rows.get(group, 0) + count
        return next(((group, rows[group.name]) for group in self._groups if rows.get(group.name)), None)

    def take(self) -> dict[str, Tensor]:
        """What was added since the last `take`, on the host; the device memory is free again.

        Returns:
            In the order of the groups, the tensors of `zero_sums`, `[branches, …]`, with zeros where nothing was
            added; of groups that read the video also those of `no_outliers`.
        """
        taken: dict[str, Tensor] = {}
        for group in self._groups:
            total = zero_sums(group)
            for (name, branch), sums in self._sums.items():
                if name == group.name:
                    for tensor, by_branch in total.items():
                        by_branch[branch] = sums[tensor.rpartition(".")[2]]
            taken |= total
            if group.sequence == "video":
                names = no_outliers(group)
                kept = self._outliers.get(group.name, names.values())
                taken |= {name: value.cpu() for name, value in zip(names, kept, strict=True)}
        self._sums.clear()
        self._outliers.clear()
        return taken
