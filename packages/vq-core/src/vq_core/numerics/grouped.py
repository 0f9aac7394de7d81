"""Weights of 4 or 6 bits, a scale for each group of 16 channels, that decode to INT8 codes.

    q = clamp(round(level[c]·s), ±127),    W·R ≈ q·scale,

with c of 4 or 6 bits, s the group's scale in E4M3 and `scale` the row's. So products and tokens are those of INT8, of a
weight that is always rotated. This is comfy-kitchen's `asym_w4a8_int8`, without its asymmetric kind.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vq_core.numerics.quantize import Groups, Quantized, quantize_weight, weight_scale
from vq_core.numerics.scheme import NumberFormat, QuantScheme, Rounding

GROUP = 16
"""Channels that share a scale."""

# fmt: off
CODEBOOK = (
    -0.980602, -0.794529, -0.638165, -0.500986, -0.377321, -0.263187, -0.155210, -0.050720,
    0.052541, 0.156985, 0.265284, 0.379533, 0.502636, 0.638953, 0.794876, 0.980671,
)
# fmt: on
"""Lloyd and Max's levels for normal values by their group's largest: comfy-kitchen's own, which its kernels know."""

TABLES = {4: CODEBOOK, 6: tuple(float(level) for level in range(-32, 32))}
"""What each code stands for before it is scaled, by bits, ascending."""
MULTIPLE = {8: 1, 4: GROUP, 6: 2 * GROUP}
"""What the channels of a row must be a multiple of, by bits: comfy-kitchen reads 6 bits in whole words."""
LEVELS = {4: TABLES[4], 6: TABLES[6][1:]}
"""Those that a weight may be rounded to: as many below 0 as above."""

MIN_SCALE, MAX_SCALE = 2.0**-9, 448.0
"""Of E4M3 numbers that are positive."""
ELEMENTS_AT_ONCE = 1 << 22


class Packed(NamedTuple):
    """A weight as files and GPUs hold it.

    Attributes:
        codes: int8 `[out, in·bits/8]`. First the low 4 bits of all codes, two in a byte, the even channel's low; at 6
            bits then their high 2 bits, four in a byte, the first channel's lowest.
        group_scale: float8_e4m3fn `[out, in/16]`.
        scale: fp32 `[out, 1]`.
        rotation: how many channels were rotated together.
    """

    codes: Tensor
    group_scale: Tensor
    scale: Tensor
    rotation: int

    @property
    def format(self) -> NumberFormat:
        """Of what the codes decode to."""
        return NumberFormat.INT8

    @property
    def bits(self) -> int:
        """Of a code: what the widths say."""
        return self.codes.shape[1] * 8 // (self.group_scale.shape[1] * GROUP)


def fits(bits: int, features: int) -> bool:
    """Can rows of `features` weights be stored in so many bits?"""
    return features % MULTIPLE[bits] == 0


def packed_width(bits: int, features: int) -> int:
    """Bytes of the codes of `features` weights."""
    return features * bits // 8


def quantize_to(scheme: QuantScheme, weight: Tensor, rounding: Rounding = Rounding.NEAREST_EVEN) -> Quantized:
    """Round `weight` `[out, in]` to nearest in `scheme`, its scales those of the largest magnitudes."""
    if scheme.grouped:
        return quantize_grouped(weight, scheme.bits)
    return quantize_weight(weight, scheme.weight, rounding)


def quantize_grouped(weight: Tensor, bits: int) -> Quantized:
    """Round `weight` `[out, in]` to nearest, its scales those of the largest magnitudes."""
    scale = weight_scale(weight, NumberFormat.INT8)
    return nearest_codes(weight, scale, Groups(group_scale(weight, scale, bits), bits))


def nearest_codes(weight: Tensor, scale: Tensor, groups: Groups) -> Quantized:
    """Round `weight` `[out, in]` to nearest at the rows' `scale` fp32 `[out, 1]`, with the scales of `groups`."""
    codes = torch.cat([_nearest(w, s, g, groups.bits) for w, s, g in _row_parts(weight, scale, groups.scale)])
    return Quantized(codes, scale, groups=groups)


def group_scale(weight: Tensor, scale: Tensor, bits: int, factor: float | Tensor = 1.0) -> Tensor:
    """The scale at which the largest level of a group is `factor` times its largest weight: E4M3 `[out, in/16]`.

    Of `weight` `[out, in]` with the rows' `scale` fp32 `[out, 1]`. A group of zeros has the smallest, at which every
    code decodes to 0.
    """
    largest = weight.unflatten(1, (-1, GROUP)).abs().amax(dim=-1).float()
    exact = largest * factor / (LEVELS[bits][-1] * scale)
    return exact.clamp(MIN_SCALE, MAX_SCALE).to(torch.float8_e4m3fn)


def nearest_level(x: Tensor, relative: Tensor, bits: int) -> Tensor:
    """The decoded value nearest to `x`, a weight over its row's scale, where its group has the scale `relative`; fp32.

    Levels are scaled and rounded without changing their order, so the one below and the one above are all that matter.
    """
    levels = torch.tensor(LEVELS[bits], device=x.device)
    above = torch.bucketize(x / relative, levels).clamp_(max=len(levels) - 1)
    low, high = (_decoded(levels[index], relative) for index in ((above - 1).clamp_(min=0), above))
    return torch.where(high - x < x - low, high, low)


def _decoded(levels: Tensor, relative: Tensor) -> Tensor:
    return (levels * relative).round_().clamp_(-127, 127)


def _nearest(weight: Tensor, scale: Tensor, groups: Tensor, bits: int) -> Tensor:
    target = (weight.float() / scale).unflatten(1, (-1, GROUP))
    return nearest_level(target, groups.float().unsqueeze(-1), bits).flatten(1).to(torch.int8)


def _row_parts(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """A few rows of all `tensors` at a time, the first of which has the longest."""
    rows = max(1, ELEMENTS_AT_ONCE // max(1, tensors[0].shape[1]))
    return list(zip(*(tensor.split(rows) for tensor in tensors), strict=True))


def pack(weight: Quantized) -> Packed:
    """`weight` with groups, as it is stored.

    Raises:
        ValueError: it has none, or a code that its group cannot decode to.
    """
    if weight.groups is None:
        raise ValueError("codes of 8 bits are not packed")
    scale, bits, stored = weight.groups
    if stored is not None:
        return Packed(stored, scale, weight.scale, weight.rotation)
    codes = torch.cat([_packed(rows, groups, bits) for rows, groups in _row_parts(weight.codes, scale)])
    return Packed(codes, scale, weight.scale, weight.rotation)


def _packed(codes: Tensor, groups: Tensor, bits: int) -> Tensor:
    levels = torch.tensor(TABLES[bits], device=codes.device)
    relative = groups.float().unsqueeze(-1)
    q = codes.float().unflatten(1, (-1, GROUP))
    above = torch.bucketize(q / relative, levels).clamp_(max=len(levels) - 1)
    below = (above - 1).clamp_(min=0)
    index = torch.where(_decoded(levels[above], relative) == q, above, below)
    if not torch.equal(_decoded(levels[index], relative), q):
        raise ValueError(f"codes that {bits} bits do not decode to")
    c = index.flatten(1).to(torch.uint8)
    low = (c[:, 0::2] & 15) | (c[:, 1::2] & 15) << 4
    if bits == 4:
        return low.view(torch.int8)
    high = c >> 4
    high = high[:, 0::4] | high[:, 1::4] << 2 | high[:, 2::4] << 4 | high[:, 3::4] << 6
    return torch.cat([low, high], dim=1).view(torch.int8)


def unpack(packed: Packed) -> Quantized:
    """The INT8 codes that `packed` decodes to, with its groups."""
    parts = _row_parts(packed.codes, packed.group_scale)
    codes = torch.cat([_unpacked(rows, groups, packed.bits) for rows, groups in parts])
    return Quantized(codes, packed.scale, packed.rotation, Groups(packed.group_scale, packed.bits, packed.codes))


def _unpacked(codes: Tensor, groups: Tensor, bits: int) -> Tensor:
    raw, features = codes.view(torch.uint8), groups.shape[1] * GROUP
    low = raw[:, : features // 2]
    c = torch.stack((low & 15, low >> 4), dim=-1).flatten(1)
    if bits == 6:
        high = raw[:, features // 2 :].unsqueeze(-1) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=raw.device)
        c = c | (high & 3).flatten(1) << 4
    levels = torch.tensor(TABLES[bits], device=codes.device)[c.int()]
    relative = groups.float().unsqueeze(-1)
    return _decoded(levels.unflatten(1, (-1, GROUP)), relative).flatten(1).to(torch.int8)
