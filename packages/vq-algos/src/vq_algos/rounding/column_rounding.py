"""GPTQ's rounding, one column after another, each to the value that compensates the error of the columns before it.

GPTQ (Frantar et al., 2022, arXiv 2210.17323, equations 2 and 3) rounds column k and moves the columns that are still
free to where the output error d·H·dᵀ is least for the fixed ones. With H = U·Uᵀ, U upper triangular, that error is
‖d·U‖², and its j-th term depends only on d_i of i ≤ j: it vanishes for

    d_j = −Σ_{i<j} d_i U_ij / U_jj, that is for ŵ_j = w_j + Σ_{i<j} d_i U_ij / U_jj.

So column j rounds that value. These are GPTQ's codes without the inverse of H (Chen et al., 2025, arXiv 2507.18553,
show that this is Babai's nearest plane algorithm), and w itself never changes: only d = w − ŵ is kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vq_algos.layer.hessian import Factor
from vq_core.numerics.grouped import GROUP, nearest_level
from vq_core.numerics.quantize import Groups, Quantized
from vq_core.numerics.rounding import CODE_DTYPE, round_to_codes
from vq_core.numerics.scheme import NumberFormat, Rounding

BLOCK = 128
"""Columns between two matrix products, as in the paper."""

RoundBlock = Callable[[Tensor, Tensor, Tensor, Tensor, NumberFormat, Rounding, Groups | None], tuple[Tensor, Tensor]]
"""`round_block`, or the same in Triton."""


def round_columns(
    weight: Tensor,
    scale: Tensor,
    factor: Factor,
    fmt: NumberFormat,
    rounding: Rounding,
    groups: Groups | None = None,
) -> Quantized:
    """Codes of `weight` fp32 `[out, in]` at the given `scale` `[out, 1]`; values beyond the scale's range saturate.

    With `groups`, the codes are those that each group can decode to.

    A block is held transposed, so that a column of the weight is contiguous. Memory beside the weight: d in fp32 and
    the codes, twice. Launches on CUDA: seven per block of columns.
    """
    round_block = _round_block_on(weight.device)
    out_features, in_features = weight.shape
    differences = weight.new_empty(in_features, out_features)
    codes = torch.empty(in_features, out_features, dtype=torch.int8, device=weight.device)
    for begin in range(0, in_features, BLOCK):
        block = slice(begin, min(begin + BLOCK, in_features))
        channels = factor.order[block]
        columns = weight.index_select(1, channels).T.contiguous()
        shift = factor.couplings[:begin, block].T @ differences[:begin]
        couplings = factor.couplings[block, block]
        own = None if groups is None else Groups(_of_channels(groups.scale, channels), groups.bits)
        values, differences[block] = round_block(columns, shift, couplings, scale.view(-1), fmt, rounding, own)
        codes[channels] = values.to(CODE_DTYPE[fmt]).view(torch.int8)  # as bytes: fp8 has no indexed copy
    return Quantized(codes.T.contiguous().view(CODE_DTYPE[fmt]), scale, groups=groups)


def _of_channels(scale: Tensor, channels: Tensor) -> Tensor:
    """The scales of the groups `[out, in/16]` that `channels` `[n]` lie in, fp32 `[n, out]`."""
    bits = scale.view(torch.int8)  # as bytes: fp8 cannot be indexed
    return bits[:, channels // GROUP].view(scale.dtype).float().T.contiguous()


def round_block(
    columns: Tensor,
    shift: Tensor,
    couplings: Tensor,
    scale: Tensor,
    fmt: NumberFormat,
    rounding: Rounding,
    groups: Groups | None = None,
) -> tuple[Tensor, Tensor]:
    """Round the columns of one block.

    Args:
        columns: fp32 `[n, out]`, the weight's columns, as rows.
        shift: fp32 `[n, out]`, Σ d_i U_ij / U_jj over the columns i of earlier blocks.
        couplings: fp32 `[n, n]`, U_ij / U_jj above the diagonal.
        scale: fp32 `[out]`.
        fmt: format of the codes.
        rounding: where a value between two codes goes.
        groups: their scale fp32 `[n, out]`, of every column's own.

    Returns:
        The codes' values fp32 `[n, out]`, and d = w − ŵ fp32 `[n, out]`.
    """
    values, differences = torch.empty_like(columns), torch.empty_like(columns)
    for j, column in enumerate(columns):
        # One product with the columns before, instead of an update of all later columns after each.
        target = torch.addmv(shift[j], differences[:j].T, couplings[:j, j]).add_(column)
        target = target.div_(scale)
        if groups is None:
            values[j] = round_to_codes(target, fmt, rounding)
        else:
            values[j] = nearest_level(target, groups.scale[j], groups.bits)
        torch.addcmul(column, values[j], scale, value=-1, out=differences[j])
    return values, differences


def _round_block_on(device: torch.device) -> RoundBlock:
    """The Triton kernel on CUDA where there is Triton, else `round_block`."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if has_triton():
            from vq_algos.rounding.column_rounding_triton import round_block as round_block_in_triton

            return round_block_in_triton
    return round_block
