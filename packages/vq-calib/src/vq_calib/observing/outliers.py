"""Outlier rows: the tokens of highest absmax, in an order that does not depend on when they arrive."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vq_calib.planning.hashing import upper_bits
from vq_core.artifacts.stats import OUTLIERS
from vq_core.topology import Group

TIE_BITS = 32


def outlier_keys(absmax: Tensor, hashes: Tensor) -> Tensor:
    """Keys that order tokens by absmax, and equal ones by their hash.

    The bits of a non-negative number rise with it: a key consists of these 31 bits, and below them of 32 of the hash.

    Args:
        absmax: fp32 `[tokens]`.
        hashes: int64 `[tokens]`.

    Returns:
        int64 `[tokens]`, not negative.
    """
    return (absmax.view(torch.int32).long() << TIE_BITS) | upper_bits(hashes, TIE_BITS)


def highest(keys: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The `OUTLIERS` highest of `keys` `[n]` in falling order, and their `rows` `[n, in]` in bf16; fewer where n is."""
    kept, index = keys.topk(min(OUTLIERS, len(keys)))
    return kept, rows[index].bfloat16()


def no_outliers(group: Group) -> dict[str, Tensor]:
    """The empty outliers of `group`: `GROUP.outlier_keys` int64 `[0]` and `GROUP.outliers` bf16 `[0, in]`."""
    return {
        f"{group.name}.outlier_keys": torch.empty(0, dtype=torch.int64),
        f"{group.name}.outliers": torch.empty(0, group.in_features, dtype=torch.bfloat16),
    }


def merge_outliers(group: Group, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same two tensors of the union of two disjoint sets of tokens."""
    names = list(no_outliers(group))
    merged = highest(*(torch.cat([a[name], b[name]]) for name in names))
    return dict(zip(names, merged, strict=True))
