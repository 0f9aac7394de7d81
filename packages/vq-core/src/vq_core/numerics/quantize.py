"""Symmetric quantization: weights per output channel, activations per token. Arithmetic is fp32 throughout."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vq_core.numerics import rotation
from vq_core.numerics.bfloat16 import bf16_ceil
from vq_core.numerics.codes import codes_as_fp32
from vq_core.numerics.rounding import CODE_DTYPE, FORMAT_OF, round_quotient_into
from vq_core.numerics.scheme import NumberFormat, Rounding

ABSMAX_FLOOR = 1e-5
SNR_ROWS = 256
TILE_ELEMENTS = 1 << 18
"""Elements processed together on the CPU: 1 MiB in fp32 stays in a core's own cache."""
SNR_TILE_ELEMENTS = 1 << 16
INTEGER_OF_BYTES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Groups(NamedTuple):
    """Why INT8 codes need fewer bits, see `vq_core.numerics.grouped`.

    Attributes:
        scale: float8_e4m3fn `[out, in/16]`, of each group of 16 channels.
        bits: 4 or 6.
        packed: the codes as they are stored, where they were read: finding them again takes longer than reading.
    """

    scale: Tensor
    bits: int
    packed: Tensor | None = None


class Quantized(NamedTuple):
    """`codes · scale` stands for the tensor, or for the tensor with its last dimension rotated.

    Attributes:
        codes: int8 or float8_e4m3fn, the tensor's shape.
        scale: fp32, the tensor's shape with a last dimension of 1.
        rotation: how many channels were rotated together, see `vq_core.numerics.rotation`; 1 for none.
        groups: of a weight whose codes are stored with fewer than 8 bits.
    """

    codes: Tensor
    scale: Tensor
    rotation: int = rotation.NONE
    groups: Groups | None = None

    @property
    def format(self) -> NumberFormat:
        """That of the codes."""
        return FORMAT_OF[self.codes.dtype]


def split(weight: Quantized, sizes: Sequence[int]) -> list[Quantized]:
    """Parts of so many rows of `weight`."""
    codes, scale = weight.codes.split(sizes), weight.scale.split(sizes)
    groups = (
        [None] * len(sizes)
        if weight.groups is None
        else [Groups(part, weight.groups.bits) for part in weight.groups.scale.split(sizes)]
    )
    parts = zip(codes, scale, groups, strict=True)
    return [Quantized(part, part_scale, weight.rotation, own) for part, part_scale, own in parts]


def weight_scale(weight: Tensor, fmt: NumberFormat) -> Tensor:
    """Scale per output channel, `[out, in]` → fp32 `[out, 1]`: max(absmax, 1e-5) / qmax, rounded up to bfloat16.

    Runtimes cast scales to bfloat16 when they load; a scale that is a bfloat16 value already means the same to all of
    them, and rounding up keeps |w| / scale ≤ qmax. Rows of zeros get scale 1, rows with a NaN or infinity get NaN.
    """
    absmax = _row_absmax(weight)
    scale = bf16_ceil(_over_qmax(absmax, fmt)).masked_fill(absmax == 0, 1.0)
    return scale.masked_fill_(~absmax.isfinite(), math.nan)


def quantize_weight(weight: Tensor, fmt: NumberFormat, rounding: Rounding = Rounding.NEAREST_EVEN) -> Quantized:
    """Round-to-nearest quantization of `weight` `[out, in]`: codes = round(w / scale).

    Scales are those of `weight_scale`; where one is NaN, the codes of its row are undefined.
    """
    codes = torch.empty(weight.shape, dtype=CODE_DTYPE[fmt], device=weight.device)
    return Quantized(codes, quantize_weight_into(codes, weight, fmt, rounding))


def quantize_weight_into(codes: Tensor, weight: Tensor, fmt: NumberFormat, rounding: Rounding) -> Tensor:
    """Write the codes of `quantize_weight` to `codes`, of its shape, dtype and device, and return the scale."""
    scale = weight_scale(weight, fmt)
    for rows, x in _tiles(weight, torch.float32):
        round_quotient_into(codes[rows], x.copy_(weight[rows]), scale[rows], fmt, rounding)
    return scale


def _tiles(x: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows of `x`, each with a buffer in `dtype` that all of them share and that stays in the cache.

    On a GPU there is one slice, of all rows.
    """
    rows, columns = x.shape
    step = rows if x.device.type != "cpu" else max(1, TILE_ELEMENTS // max(1, columns))
    tile = torch.empty(min(step, rows), columns, dtype=dtype, device=x.device)
    for begin in range(0, rows, max(1, step)):
        yield slice(begin, begin + step), tile[: rows - begin]


def _row_absmax(weight: Tensor) -> Tensor:
    """Largest |w| of every row of `[out, in]` as fp32 `[out, 1]`; NaN where there is one.

    Without their sign, the bits of floats are in the order of what they stand for, with infinity and then NaN at the
    end. So they are compared as integers, which needs no conversion to fp32.
    """
    integer = INTEGER_OF_BYTES[weight.dtype.itemsize]
    bits, magnitude = weight.view(integer), torch.iinfo(integer).max
    absmax = torch.empty(len(weight), 1, dtype=integer, device=weight.device)
    for rows, tile in _tiles(weight, integer):
        torch.bitwise_and(bits[rows], magnitude, out=tile)
        torch.amax(tile, dim=-1, keepdim=True, out=absmax[rows])
    return absmax.view(weight.dtype).float()


def quantize_tokens(
    x: Tensor,
    fmt: NumberFormat,
    gain: Tensor | None = None,
    group: int = rotation.NONE,
    mean: Tensor | None = None,
) -> Quantized:
    """Dynamic quantization of activations `[..., in]`, one scale per token: scale = max(absmax, 1e-5) / qmax.

    `gain` `[in]` multiplies x first: the smoothing of an input whose norm cannot absorb it. Then `mean` `[in]` is
    subtracted where nothing before could lose it, and groups of `group` channels are rotated.
    """
    tokens = x.reshape(-1, x.shape[-1])
    codes = torch.empty(tokens.shape, dtype=CODE_DTYPE[fmt], device=x.device)
    scale = torch.empty(len(tokens), 1, device=x.device)
    for rows, tile in _tiles(tokens, torch.float32):
        tile.copy_(tokens[rows])
        if gain is not None:
            tile.mul_(gain)
        if mean is not None:
            tile.sub_(mean)
        tile = rotation.rotate(tile, group)
        scale[rows] = _over_qmax(tile.abs().amax(dim=-1, keepdim=True), fmt)
        round_quotient_into(codes[rows], tile, scale[rows], fmt, Rounding.NEAREST_EVEN)
    return Quantized(codes.reshape(x.shape), scale.reshape(*x.shape[:-1], 1), group)


def _over_qmax(absmax: Tensor, fmt: NumberFormat) -> Tensor:
    """max(absmax, 1e-5) / qmax; by a tensor, because CUDA multiplies by the reciprocal where it divides by a scalar."""
    return absmax.clamp(min=ABSMAX_FLOOR) / torch.full_like(absmax, fmt.qmax)


def dequantize(quantized: Quantized) -> Tensor:
    """The tensor that `quantized` stands for, in fp32: codes · scale, rotated back."""
    return rotation.rotate(codes_as_fp32(quantized.codes) * quantized.scale, quantized.rotation)


def quantized_snr_db(weight: Tensor, quantized: Quantized) -> float:
    """SNR in dB of `quantized`, which is not rotated, against `weight` `[out, in]`; inf where it is exact.

    A tile at a time, so that it stays in the cache: a small part of the time that quantizing takes.
    """
    signal = noise = 0.0
    step = max(1, SNR_TILE_ELEMENTS // max(1, weight.shape[1]))
    parts = (weight, quantized.codes, quantized.scale)
    for rows, codes, scale in zip(*(part.split(step) for part in parts), strict=True):
        exact = rows.float()
        signal += _energy(exact)
        noise += _energy(exact - codes_as_fp32(codes) * scale)
    return _ratio_db(signal, noise)


def _energy(x: Tensor) -> float:
    flat = x.double().flatten()
    return float(flat.dot(flat))


def snr_db(reference: Tensor, approximation: Tensor) -> float:
    """Signal-to-noise ratio 10·log₁₀(Σ ref² / Σ (ref − approx)²) in dB; inf where they are equal.

    Squares are summed in fp64, a slice of rows at a time, so that no fp64 copy of a whole weight is made.
    """
    signal = noise = 0.0
    for ref, approx in zip(reference.split(SNR_ROWS), approximation.split(SNR_ROWS), strict=True):
        exact = ref.double()
        signal += float(exact.square().sum())
        noise += float((exact - approx.double()).square().sum())
    return _ratio_db(signal, noise)


def _ratio_db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
