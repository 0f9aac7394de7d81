"""Rotation by a regular Hadamard matrix in groups of channels, which spreads outliers: x·Wᵀ = (x·R)·(W·R)ᵀ.

    H₄ = [[1, 1, 1, −1], [1, 1, −1, 1], [1, −1, 1, 1], [−1, 1, 1, 1]] / 2,    H of 4ᵏ channels = H₄ ⊗ … ⊗ H₄.

H is symmetric and its own inverse, and no column is constant, so that what all channels have in common does not end up
in a single one (ConvRot, arXiv 2512.03673). R is block-diagonal, one H for each group of consecutive channels. A group
of one channel is no rotation.
"""

import torch
from torch import Tensor

NONE = 1
"""The group of no rotation."""
BASE = 4
TILE_ELEMENTS = 1 << 18
"""Elements rotated together on the CPU: 1 MiB in fp32 stays in a core's own cache."""


def rotate(x: Tensor, group: int) -> Tensor:
    """x·R of `x` `[..., in]` in fp32, of which `group` channels are rotated together; its own inverse.

    Step by step with H₄ instead of one product with H: the order of the sums is then the same everywhere, whatever the
    number of rows, the library or its settings.

    Raises:
        ValueError: `group` is no power of 4, or does not divide the channels.
    """
    if group == NONE:
        return x.float()
    if not fits(group, x.shape[-1]):
        raise ValueError(f"groups of {group} do not fit {x.shape[-1]} channels")
    rows = x.reshape(-1, x.shape[-1])
    step = len(rows) if x.device.type != "cpu" else max(1, TILE_ELEMENTS // x.shape[-1])
    rotated = [_rotated(part.float(), group) for part in rows.split(max(1, step))]
    return torch.cat(rotated).reshape(x.shape) if rotated else x.float()


def _rotated(rows: Tensor, group: int) -> Tensor:
    shape, inner = rows.shape, group
    while inner > 1:
        inner //= BASE
        a, b, c, d = rows.reshape(-1, BASE, inner).unbind(1)
        half = (a + b).add_(c).add_(d).mul_(0.5)
        rows = torch.stack((half - d, half - c, half - b, half - a), dim=1)
    return rows.reshape(shape)


def largest_group(features: int, limit: int) -> int:
    """The largest power of 4 up to `limit` that divides `features`; 1, no rotation, if not even 4 does."""
    group = NONE
    while group * BASE <= limit and features % (group * BASE) == 0:
        group *= BASE
    return group


def fits(group: int, features: int) -> bool:
    """Can `features` channels be rotated in groups of `group`, a power of 4 that divides them?"""
    return group > 0 and largest_group(features, group) == group
