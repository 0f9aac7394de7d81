"""`column_rounding.round_block` as one Triton kernel; imported only where CUDA and Triton are.

A program takes `ROWS` rows of the weight through all columns of a block and keeps the shifts in registers, so a block
is one launch. Codes are rounded by bit arithmetic in fp32, exactly as `round_to_codes` rounds.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_core.numerics.grouped import LEVELS
from vq_core.numerics.quantize import Groups
from vq_core.numerics.scheme import NumberFormat, Rounding

BLOCK = 128
ROWS = 16
"""With one warp per program, the sum over columns needs no barrier; 5120 rows are 320 programs, none of which spills
registers."""

INT8_EVEN = tl.constexpr(0)
E4M3_EVEN = tl.constexpr(1)
E4M3_AWAY = tl.constexpr(2)
BITS_4 = tl.constexpr(4)
BITS_6 = tl.constexpr(6)


@triton.jit  # type: ignore[untyped-decorator]
def _rounded(x, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """`x` fp32, rounded to the code's value; ±127 or ±448 at most."""
    if kind == INT8_EVEN:
        magnitude = tl.minimum(tl.abs(x), 127.0)
        rounded = (magnitude + 12582912.0) - 12582912.0  # 1.5·2²³: what is below one is rounded off, half to even
    else:
        magnitude = tl.minimum(tl.abs(x), 448.0)
        bits = magnitude.to(tl.int32, bitcast=True)
        if kind == E4M3_EVEN:
            odd = (bits >> 20) & 1
            normal = ((bits + 0x7FFFF + odd) & -0x100000).to(tl.float32, bitcast=True)
            subnormal = (magnitude + 24576.0) - 24576.0  # 1.5·2¹⁴: what is below 2⁻⁹ is rounded off, half to even
        else:
            # As `emulate_qtorch_e4m3`, whose sum with 2⁻⁶ rounds too.
            normal = ((bits + 0x80000) & -0x100000).to(tl.float32, bitcast=True)
            lifted = (magnitude + 0.015625).to(tl.int32, bitcast=True)
            subnormal = ((lifted + 0x80000) & -0x100000).to(tl.float32, bitcast=True) - 0.015625
        rounded = tl.where(magnitude < 0.015625, subnormal, normal)
    # What rounds to zero from below is −0 to torch's cast and +0 to QPyTorch.
    negative = 0.0 - rounded if kind == E4M3_AWAY else rounded * -1.0
    return tl.where(x < 0, negative, rounded)


@triton.jit
def _decoded(level, relative):  # type: ignore[no-untyped-def]
    value = (level * relative + 12582912.0) - 12582912.0  # 1.5·2²³, as above
    return tl.minimum(tl.maximum(value, -127.0), 127.0)


@triton.jit  # type: ignore[untyped-decorator]
def _nearest_level(x, relative, levels, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """As `vq_core.numerics.grouped.nearest_level`; at 6 bits levels are whole numbers."""
    wanted = tl.div_rn(x, relative)
    if kind == BITS_6:
        high = tl.minimum(tl.maximum(tl.ceil(wanted), -31.0), 31.0)
        low = tl.maximum(high - 1.0, -31.0)
    else:
        low = tl.zeros_like(x) + tl.load(levels)
        high = tl.zeros_like(x) + tl.load(levels + 15)
        for i in tl.static_range(16):
            up, down = tl.load(levels + i), tl.load(levels + (15 - i))
            low = tl.where(up < wanted, up, low)
            high = tl.where(down >= wanted, down, high)
    low, high = _decoded(low, relative), _decoded(high, relative)
    return tl.where(high - x < x - low, high, low)


@triton.jit  # type: ignore[untyped-decorator]
def _round_block_kernel(  # type: ignore[no-untyped-def]
    columns,
    shift,
    couplings,
    scale,
    group_scale,
    levels,
    values,
    differences,
    out_features,
    n,
    couplings_stride,
    kind: tl.constexpr,
    block: tl.constexpr,
    rows: tl.constexpr,
):
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.arange(0, block)
    is_row = row < out_features
    own_scale = tl.load(scale + row, mask=is_row, other=1.0)
    tile = column[:, None] * out_features + row[None, :]
    shifts = tl.load(shift + tile, mask=(column[:, None] < n) & is_row[None, :], other=0.0)
    for j in range(n):
        at = j * out_features + row
        weight = tl.load(columns + at, mask=is_row, other=0.0)
        target = weight + tl.sum(tl.where(column[:, None] == j, shifts, 0.0), axis=0)
        x = tl.div_rn(target, own_scale)
        if (kind == BITS_4) | (kind == BITS_6):
            value = _nearest_level(x, tl.load(group_scale + at, mask=is_row, other=1.0), levels, kind)
        else:
            value = _rounded(x, kind)
        difference = weight - value * own_scale
        tl.store(values + at, value, mask=is_row)
        tl.store(differences + at, difference, mask=is_row)
        # Couplings of j to the columns after it; what stands at and before j is zero.
        coupling = tl.load(couplings + j * couplings_stride + column, mask=column < n, other=0.0)
        shifts += coupling[:, None] * difference[None, :]


def round_block(
    columns: Tensor,
    shift: Tensor,
    couplings: Tensor,
    scale: Tensor,
    fmt: NumberFormat,
    rounding: Rounding,
    groups: Groups | None = None,
) -> tuple[Tensor, Tensor]:
    """See `column_rounding.round_block`: the same arguments, results and rounding, sums in another order."""
    n, out_features = columns.shape
    values, differences = torch.empty_like(columns), torch.empty_like(columns)
    group_scale, levels = (columns, columns) if groups is None else (groups.scale, _levels(columns.device))
    _round_block_kernel[(triton.cdiv(out_features, ROWS),)](
        columns,
        shift,
        couplings,
        scale,
        group_scale,
        levels,
        values,
        differences,
        out_features,
        n,
        couplings.stride(0),
        kind=_kind(fmt, rounding) if groups is None else groups.bits,
        block=BLOCK,
        rows=ROWS,
        num_warps=1,
        enable_fp_fusion=False,  # as torch, and whatever the version's default is
    )
    return values, differences


@cache
def _levels(device: torch.device) -> Tensor:
    """Those of 4 bits, fp32 `[16]`; made once, because a copy to the GPU waits for all that is queued."""
    return torch.tensor(LEVELS[4], device=device)


def _kind(fmt: NumberFormat, rounding: Rounding) -> int:
    if fmt is NumberFormat.INT8:
        return INT8_EVEN.value
    return E4M3_AWAY.value if rounding is Rounding.QTORCH else E4M3_EVEN.value
