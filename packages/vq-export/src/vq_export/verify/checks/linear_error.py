"""How far a quantized linear is from the weight that it was rounded from."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_core.numerics.grouped import group_scale, nearest_codes
from vq_core.numerics.quantize import Groups, Quantized, dequantize, snr_db, weight_scale
from vq_core.numerics.rotation import NONE, rotate
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import NumberFormat

BF16_ROUNDING = 2.0**-9
"""Largest relative error of a cast to bfloat16, in which folded weights may have been stored."""
SMALLEST_CLIP = 0.55
"""Rounders search clipped scales down to 0.6 of the absmax's."""
LARGEST_GROUP = 1.25
"""And those of groups up to 1.1 of it, before they are rounded to E4M3."""
MULTIPLE = 0.99
"""A column is a multiple of the right one if this share of its noise lies along it."""


@dataclass(frozen=True)
class LinearError:
    """The difference between a dequantized weight and the folded original.

    Attributes:
        snr_db: over the whole weight.
        excess_db: noise power in the worst row or column, over that of rounding to nearest there at the checkpoint's
            scale. The SNR of the whole weight would not show one wrong scale or gain among thousands.
    """

    snr_db: float
    excess_db: float


def linear_error(folded: Tensor, quantized: Quantized, *, nearest: bool = True) -> LinearError:
    """Compare `quantized` with the weight `folded` `[out, in]` and with that weight rounded to nearest.

    Rotated codes are compared with the rotated weight.

    Unless codes are the `nearest`, only columns that are a multiple of the right ones count: other rounders move error
    into columns whose input matters little, without limit.
    """
    folded, quantized = rotate(folded, quantized.rotation), quantized._replace(rotation=NONE)
    dequantized = dequantize(quantized)
    difference = folded - dequantized
    noise = difference.square()
    rounded = rounded_to_nearest(folded, quantized)
    expected = (folded - rounded).square() + (BF16_ROUNDING * folded).square()
    columns = noise.sum(0) if nearest else _along(difference, folded)
    nothing = torch.finfo(torch.float32).tiny
    excess = max(
        float((found / expected.sum(dim).clamp(min=nothing)).max()) for dim, found in ((0, columns), (1, noise.sum(1)))
    )
    return LinearError(snr_db(folded, dequantized), 10 * math.log10(max(excess, nothing)))


def rounded_to_nearest(folded: Tensor, quantized: Quantized) -> Tensor:
    """The weight `folded` rounded to nearest as `quantized` is: rotated alike, at its scale where that is plausible."""
    rotated = rotate(folded, quantized.rotation)
    if quantized.groups is not None:
        return dequantize(_nearest_in_groups(rotated, quantized)._replace(rotation=quantized.rotation))
    scale = _scale(rotated, quantized.scale, quantized.format)
    return dequantize(Quantized(round_to_codes(rotated / scale, quantized.format), scale, quantized.rotation))


def _nearest_in_groups(folded: Tensor, quantized: Quantized) -> Quantized:
    """As `quantized` with its scales, where they are plausible, else with those of the largest magnitudes."""
    assert quantized.groups is not None
    scale, bits = _scale(folded, quantized.scale, quantized.format), quantized.groups.bits
    of_absmax = group_scale(folded, scale, bits)
    ratio = quantized.groups.scale.float() / of_absmax.float()
    # One step of E4M3 beyond the largest and smallest factor that is searched.
    plausible = (ratio <= LARGEST_GROUP) & (ratio >= SMALLEST_CLIP)
    chosen = torch.where(plausible, quantized.groups.scale.float(), of_absmax.float()).to(of_absmax.dtype)
    return nearest_codes(folded, scale, Groups(chosen, bits))


def _scale(folded: Tensor, scale: Tensor, fmt: NumberFormat) -> Tensor:
    """The `scale` of the checkpoint; where no rounder would choose it, that of the row's absmax.

    Where all rows have the same scale, that of the whole weight's.
    """
    of_absmax = weight_scale(folded, fmt)
    if len(scale) > 1 and bool((scale == scale[0]).all()):
        of_absmax = of_absmax.amax().expand_as(of_absmax)
    return torch.where((scale <= of_absmax) & (scale >= SMALLEST_CLIP * of_absmax), scale, of_absmax)


def _along(difference: Tensor, folded: Tensor) -> Tensor:
    """Noise of the columns whose noise is nearly all along the column itself; zero for the others."""
    noise = difference.square().sum(0)
    along = (difference * folded).sum(0).square() / folded.square().sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(along > MULTIPLE * noise, noise, torch.zeros_like(noise))
