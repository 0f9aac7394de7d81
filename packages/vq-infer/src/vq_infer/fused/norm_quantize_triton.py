"""`norm_quantize` and `gated_sum` as one kernel each: every row is read once and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_core.numerics.quantize import Quantized
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.tokens import Tokens
from vq_infer.fused.triton_rows import (
    empty_tokens,
    load_row,
    rotate_row,
    row_options,
    store_row,
    store_tokens,
    vector_strides,
)


def norm_quantize(
    x: Tensor,
    multiplier: Tensor,
    offset: Tensor,
    eps: float,
    fmt: NumberFormat | None,
    gain: Tensor | None = None,
    update: Tensor | None = None,
    gate: Tensor | None = None,
    rotation: int = NONE,
) -> tuple[Tensor, Tokens]:
    """See `vq_infer.fused.norm_quantize.norm_quantize`; LayerNorm's sums are taken in another order."""
    batch, tokens, dim = x.shape
    x = x.contiguous()
    update = x if update is None else update.contiguous()
    summed = torch.empty_like(x) if update is not x else x
    out, scale = empty_tokens(x, fmt)
    vectors = [multiplier if vector is None else vector for vector in (multiplier, offset, gate)]
    strides = [stride for vector in vectors for stride in vector_strides(vector)]
    _kernel[(tokens, batch)](
        x, update, summed, out, scale, *vectors, multiplier if gain is None else gain,
        tokens, dim, eps, fmt.qmax if fmt else 0.0, *strides,
        HAS_UPDATE=update is not x, HAS_GATE=gate is not None, HAS_GAIN=gain is not None,
        ROTATION=rotation, FULL=fmt is None, IS_INT8=fmt is NumberFormat.INT8, **row_options(dim),
    )  # fmt: skip
    return summed, Quantized(out, scale, rotation) if fmt else out


def gated_sum(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """See `vq_infer.fused.norm_quantize.gated_sum`."""
    batch, tokens, dim = x.shape
    x, update = x.contiguous(), update.contiguous()
    out = torch.empty_like(x)
    _sum_kernel[(tokens, batch)](x, update, gate, out, tokens, dim, *vector_strides(gate), **row_options(dim))
    return out


@triton.jit
def _kernel(
    x_ptr, update_ptr, summed_ptr, out_ptr, scale_ptr, multiplier_ptr, offset_ptr, gate_ptr, gain_ptr,
    tokens, dim, eps, qmax,
    multiplier_batch, multiplier_token, offset_batch, offset_token, gate_batch, gate_token,
    HAS_UPDATE: tl.constexpr, HAS_GATE: tl.constexpr, HAS_GAIN: tl.constexpr,
    ROTATION: tl.constexpr, FULL: tl.constexpr, IS_INT8: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    token, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    multiplier_ptr += batch * multiplier_batch + token * multiplier_token
    offset_ptr += batch * offset_batch + token * offset_token
    gate_ptr += batch * gate_batch + token * gate_token
    row = batch * tokens + token
    x = load_row(x_ptr + row * dim, dim, CHUNK, CHUNKS)
    if HAS_UPDATE:
        update = load_row(update_ptr + row * dim, dim, CHUNK, CHUNKS)
        x = _added(x, update, gate_ptr, dim, summed_ptr.dtype.element_ty, HAS_GATE, CHUNK, CHUNKS)
        store_row(summed_ptr + row * dim, x, dim, CHUNK, CHUNKS)
    total = x[0]
    for i in tl.static_range(1, CHUNKS):
        total += x[i]
    mean = tl.sum(total) / dim
    squares = tl.zeros_like(x[0])
    for i in tl.static_range(CHUNKS):
        centred = tl.where(i * CHUNK + tl.arange(0, CHUNK) < dim, x[i] - mean, 0.0)
        squares += centred * centred
    inverse = tl.rsqrt(tl.sum(squares) / dim + eps)
    y = ()
    for i in tl.static_range(CHUNKS):
        columns = i * CHUNK + tl.arange(0, CHUNK)
        multiplier = tl.load(multiplier_ptr + columns, columns < dim, 0.0)
        value = (x[i] - mean) * inverse * multiplier + tl.load(offset_ptr + columns, columns < dim, 0.0)
        value = value.to(x_ptr.dtype.element_ty).to(tl.float32)
        if HAS_GAIN:
            value *= tl.load(gain_ptr + columns, columns < dim, 0.0)
        y = y + (value,)
    y = rotate_row(y, ROTATION, CHUNK, CHUNKS)
    store_tokens(out_ptr + row * dim, scale_ptr + row, y, dim, qmax, FULL, IS_INT8, CHUNK, CHUNKS)


@triton.jit
def _added(
    x, update, gate_ptr, dim, DTYPE: tl.constexpr, HAS_GATE: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr
):
    """x + update·gate, rounded to `DTYPE` and back in fp32."""
    summed = ()
    for i in tl.static_range(CHUNKS):
        columns = i * CHUNK + tl.arange(0, CHUNK)
        gain = update[i]
        if HAS_GATE:
            gain *= tl.load(gate_ptr + columns, columns < dim, 0.0)
        summed = summed + ((x[i] + gain).to(DTYPE).to(tl.float32),)
    return summed


@triton.jit
def _sum_kernel(
    x_ptr, update_ptr, gate_ptr, out_ptr, tokens, dim, gate_batch, gate_token,
    CHUNK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    token, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    at = (batch * tokens + token) * dim
    gate = load_row(gate_ptr + batch * gate_batch + token * gate_token, dim, CHUNK, CHUNKS)
    x = load_row(x_ptr + at, dim, CHUNK, CHUNKS)
    update = load_row(update_ptr + at, dim, CHUNK, CHUNKS)
    summed = ()
    for i in tl.static_range(CHUNKS):
        summed = summed + (x[i] + update[i] * gate[i],)
    store_row(out_ptr + at, summed, dim, CHUNK, CHUNKS)
