"""The tensors of a group that add up over calls, prompts and parts: statistics by channel, counts and histograms."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vq_core.artifacts.histograms import HISTOGRAMS
from vq_core.artifacts.stats import BRANCHES
from vq_core.statistics import all_statistics
from vq_core.topology import Group


def zero_sums(group: Group, *axes: int) -> dict[str, Tensor]:
    """Sums of `group` over no tokens, by tensor name, each `[*axes, branches, …]`."""
    zeros: dict[str, Tensor] = {}
    for name, statistic in all_statistics().items():
        zeros[f"{group.name}.{name}"] = torch.zeros(*axes, len(BRANCHES), group.in_features, dtype=statistic.DTYPE)
    zeros[f"{group.name}.count"] = torch.zeros(*axes, len(BRANCHES), dtype=torch.int64)
    for name, octaves in HISTOGRAMS.items():
        shape = (*axes, len(BRANCHES), octaves.bins)
        zeros[f"{group.name}.{name}_histogram"] = torch.zeros(shape, dtype=torch.int64)
    return zeros


def sum_names(group: Group) -> list[str]:
    """The names of `zero_sums`."""
    parts = [*all_statistics(), "count", *(f"{name}_histogram" for name in HISTOGRAMS)]
    return [f"{group.name}.{part}" for part in parts]


def merge_sums(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums of the union of two disjoint sets of tokens, with the names of `a`."""
    statistics = all_statistics()
    merged = {}
    for name, tensor in a.items():
        statistic = statistics.get(name.rpartition(".")[2])
        merged[name] = tensor + b[name] if statistic is None else statistic.merge(tensor, b[name])
    return merged
