"""Functions that the kernels for rows share.

A row is held in registers as a tuple of chunks, because Triton's blocks are powers of two and rows are not: 5120 values
in one block would take 8192, and these kernels are bound by arithmetic as much as by memory.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_core.numerics import quantize
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import NumberFormat

FLOOR = tl.constexpr(quantize.ABSMAX_FLOOR)
HALF_EVEN = tl.constexpr(1.5 * 2.0**23)
VALUES = 8  # per thread in a chunk: 16 bytes of bfloat16


def row_options(dim: int) -> dict[str, Any]:
    """Size and number of chunks for rows of `dim` values, and the warps of a program."""
    warps = 4 if dim <= 8192 else 8
    sizes = (VALUES * 32 * warps, VALUES * 16 * warps)
    chunk = min(*sizes, key=lambda size: triton.cdiv(dim, size) * size)
    chunk = min(chunk, triton.next_power_of_2(dim))
    return {"CHUNK": chunk, "CHUNKS": triton.cdiv(dim, chunk), "num_warps": warps}


def empty_tokens(x: Tensor, fmt: NumberFormat | None) -> tuple[Tensor, Tensor]:
    """Memory for codes in `fmt` of `x` `[batch, tokens, dim]` and their scales; without a format, for its values."""
    scale = torch.empty(*x.shape[:2], 1, dtype=torch.float32, device=x.device)
    return torch.empty(x.shape, dtype=CODE_DTYPE[fmt] if fmt else x.dtype, device=x.device), scale


def vector_strides(vector: Tensor) -> tuple[int, int]:
    """Strides over batch and tokens of a `[batch or 1, tokens or 1, dim]`, or of a `[dim]`; 0 along a size of 1."""
    if vector.ndim == 1:
        return 0, 0
    batch, token = (
        0 if size == 1 else stride for size, stride in zip(vector.shape[:2], vector.stride()[:2], strict=True)
    )
    return batch, token


@triton.jit
def load_row(pointer, dim, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """The row of `dim` values at `pointer` in fp32: chunks, with zeros beyond its end."""
    row = ()
    for i in tl.static_range(CHUNKS):
        columns = i * CHUNK + tl.arange(0, CHUNK)
        row = row + (tl.load(pointer + columns, columns < dim, 0.0).to(tl.float32),)
    return row


@triton.jit
def store_row(pointer, row, dim, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """Store the chunks of a row, rounded to what `pointer` points to."""
    for i in tl.static_range(CHUNKS):
        columns = i * CHUNK + tl.arange(0, CHUNK)
        tl.store(pointer + columns, row[i].to(pointer.dtype.element_ty), columns < dim)


@triton.jit
def rotate_row(row, ROTATION: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """`vq_core.numerics.rotation.rotate` of a row in fp32: groups of `ROTATION`, which lie within the chunks."""
    rotated = ()
    for i in tl.static_range(CHUNKS):
        x = row[i]
        if ROTATION >= 4:
            x = _rotate_step(x, ROTATION // 4, CHUNK)
        if ROTATION >= 16:
            x = _rotate_step(x, ROTATION // 16, CHUNK)
        if ROTATION >= 64:
            x = _rotate_step(x, ROTATION // 64, CHUNK)
        if ROTATION >= 256:
            x = _rotate_step(x, ROTATION // 256, CHUNK)
        rotated = rotated + (x,)
    return rotated


@triton.jit
def _rotate_step(x, INNER: tl.constexpr, CHUNK: tl.constexpr):
    """H₄ over the four values `INNER` apart.

    With these as a square, and p and q the sums of its columns and rows: half of all four less the opposite corner is
    p + q − x − (a + b + c + d)/2, which needs nothing but sums of two.
    """
    x = tl.reshape(x, (CHUNK // (4 * INNER), 2, 2, INNER))
    p, q = tl.sum(x, 1, keep_dims=True), tl.sum(x, 2, keep_dims=True)
    x = p + q - x - 0.5 * tl.sum(p, 2, keep_dims=True)
    return tl.reshape(x, (CHUNK,))


@triton.jit
def store_tokens(
    out, scale, row, dim, qmax, FULL: tl.constexpr, IS_INT8: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr
):
    """Store a row in fp32 as what the next linear reads: codes and their scale, or with `FULL` the values alone."""
    if FULL:
        store_row(out, row, dim, CHUNK, CHUNKS)
    else:
        store_codes(out, scale, row, dim, qmax, IS_INT8, CHUNK, CHUNKS)


@triton.jit
def store_codes(codes, scale, row, dim, qmax, IS_INT8: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """Quantize a row in fp32 as `quantize_tokens` does, and store its codes at `codes` and its scale at `scale`.

    Values are multiplied by 1/scale, because a division takes longer than everything else in such a kernel. One code
    in 100 000 becomes its neighbour by that. No value exceeds qmax by more than rounding, so none needs a clamp.
    """
    absmax = tl.abs(row[0])
    for i in tl.static_range(1, CHUNKS):
        absmax = tl.maximum(absmax, tl.abs(row[i]))
    one = tl.div_rn(tl.maximum(tl.max(absmax), FLOOR), qmax)
    tl.store(scale, one)
    inverse = tl.div_rn(1.0, one)
    for i in tl.static_range(CHUNKS):
        columns = i * CHUNK + tl.arange(0, CHUNK)
        x = row[i] * inverse
        if IS_INT8:
            # Adding 1.5·2²³ leaves no bits for fractions: the sum is rounded half to even.
            x = (x + HALF_EVEN) - HALF_EVEN
        tl.store(codes + columns, x.to(codes.dtype.element_ty), columns < dim)
