"""The residual at a block's end, in plain torch."""

from torch import Tensor


def gated_sum(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """x + update·gate in fp32, rounded to the dtype of `x`.

    `x` and `update` are `[batch, tokens, dim]`; `gate` is fp32 `[batch or 1, tokens or 1, dim]`.
    """
    return (x.float() + update.float() * gate).to(x.dtype)
