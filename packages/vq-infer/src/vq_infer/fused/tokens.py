"""What a linear of a block reads: codes of tokens, or in full precision the tokens themselves."""

from torch import Tensor

from vq_core.numerics.quantize import Quantized, quantize_tokens
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import NumberFormat

Tokens = Quantized | Tensor


def tokens_of(
    x: Tensor,
    fmt: NumberFormat | None,
    gain: Tensor | None = None,
    rotation: int = NONE,
    mean: Tensor | None = None,
) -> Tokens:
    """Q((x·gain − mean)·R) for `x` `[..., dim]`; without a format, `x`."""
    return x if fmt is None else quantize_tokens(x, fmt, gain, rotation, mean)
