"""Rounding of scaled values to codes."""

import importlib.util

import torch
from torch import Tensor

from vq_core.numerics.scheme import NumberFormat, Rounding

CODE_DTYPE = {NumberFormat.INT8: torch.int8, NumberFormat.FP8_E4M3: torch.float8_e4m3fn}
FORMAT_OF = {dtype: fmt for fmt, dtype in CODE_DTYPE.items()}
ROUND_OFF = 1.5 * 2**23
"""Between 2²³ and 2²⁴ fp32 holds whole numbers only, so adding this rounds what is small, half to even."""


def round_to_codes(x: Tensor, fmt: NumberFormat, rounding: Rounding = Rounding.NEAREST_EVEN) -> Tensor:
    """Codes of the scaled values `x` (fp32, any shape) in the dtype of `fmt`.

    Values beyond ±qmax saturate. The clamp comes before the cast because what an overflowing cast to E4M3 gives
    depends on torch's version and on the device.
    """
    return _rounded(x.clamp(-fmt.qmax, fmt.qmax), fmt, rounding).to(CODE_DTYPE[fmt])


def round_quotient_into(codes: Tensor, x: Tensor, scale: Tensor, fmt: NumberFormat, rounding: Rounding) -> None:
    """Write `round_to_codes` of `x` / `scale` to `codes`; `x` `[rows, columns]` is overwritten to save memory.

    `scale` `[rows, 1]` is at least |x| / qmax, correctly rounded to fp32. So |x| / scale is at most qmax / (1 − 2⁻²⁴),
    and its fp32 value at most the one after qmax: that rounds to qmax in either format, and nothing has to be clamped.
    Codes under a scale of NaN are undefined.

    Division and rounding to an integer are one pass: (1.5·2²³ + x / scale) has the integer in its lowest bits.
    """
    if fmt is NumberFormat.INT8:
        row = torch.full(x.shape[1:], ROUND_OFF, device=x.device)
        codes.copy_(torch.addcdiv(row, x, scale, out=x).view(torch.int32))  # to int8, which keeps the lowest byte
    else:
        codes.copy_(_rounded(x.div_(scale), fmt, rounding))


def _rounded(x: Tensor, fmt: NumberFormat, rounding: Rounding) -> Tensor:
    """Values that a cast turns into codes; `x` is overwritten."""
    if fmt is NumberFormat.INT8:
        return x.round_()
    return _e4m3_ties_away(x) if rounding is Rounding.QTORCH else x


def _e4m3_ties_away(x: Tensor) -> Tensor:
    """QPyTorch's `float_quantize(x, exp=4, man=3, rounding="nearest")`, through the package where it is installed."""
    if importlib.util.find_spec("qtorch") is None:
        return emulate_qtorch_e4m3(x)
    from qtorch.quant import float_quantize

    rounded: Tensor = float_quantize(x.contiguous(), exp=4, man=3, rounding="nearest")
    return rounded


def emulate_qtorch_e4m3(x: Tensor) -> Tensor:
    """QPyTorch's round-to-nearest E4M3 of fp32 values within ±448, bit for bit.

    It adds half of the dropped place to the bit pattern and truncates, so ties go away from zero. Below the smallest
    normal value 2⁻⁶ it first adds sign·2⁻⁶, which lines the subnormal grid up with the bits that are kept, and
    subtracts it afterwards; that addition rounds too, and a negative zero comes out positive.
    """
    dropped = 23 - 3
    smallest_normal = 2.0**-6
    # Products with a comparison's 0 and 1, because torch.where takes many times as long.
    shift = x.abs().lt_(smallest_normal).mul_(smallest_normal).copysign_(x)
    bits = (x + shift).view(torch.int32)
    rounded = bits.add_(1 << (dropped - 1)).bitwise_and_(-(1 << dropped)).view(torch.float32)
    return rounded.sub_(shift)
