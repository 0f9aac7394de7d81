"""The distinct rows of a condition, and how many tokens each stands for."""

import numpy as np
import torch
from torch import Tensor


def unique_rows(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Each row once, with the counts of all rows equal to it added up, in an order that the rows alone decide.

    Rows are equal where their bits are.

    Args:
        rows: bf16 `[n, in]`, on the host.
        counts: int64 `[n, splits]`.

    Returns:
        bf16 `[m, in]` and int64 `[m, splits]`.
    """
    width = rows.shape[1]
    bits = rows.contiguous().view(torch.int16).numpy()
    whole = bits.view(np.dtype((np.void, 2 * width))).reshape(-1)
    kept, inverse = np.unique(whole, return_inverse=True)
    total = torch.zeros(len(kept), counts.shape[1], dtype=torch.int64)
    total.index_add_(0, torch.from_numpy(inverse.reshape(-1)), counts)
    return torch.from_numpy(kept.view(np.int16).reshape(-1, width)).view(torch.bfloat16), total
