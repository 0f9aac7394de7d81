"""Triton: q, k and v as 8-bit codes for attention; `reference.quantize` is the same in plain torch.

K and V are read twice: once for statistics over all tokens (the mean of k; mean and range of v, by channel), once to
be written as codes. A matrix product rotates rows of q and k by a Hadamard matrix of ±1, which is exact in 16 bits.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from vq_infer.eight_bit.operands import BLOCK, Operands, logit_factor, padded_head_dim

CHUNK = 512
"""Tokens that one program of the first pass reads."""

ROWS = 16
"""Tokens that it reads at a time."""

GROUP = 8
"""Blocks that one program rotates; it makes the matrix once for all of them."""


def quantize(q: Tensor, k: Tensor, v: Tensor) -> Operands:
    """See `reference.quantize`. Rows of q, k and v must be contiguous; batches, tokens and heads may be strided."""
    batch, queries, heads, head_dim = q.shape
    keys = k.shape[1]
    dim = padded_head_dim(head_dim)
    if dim != head_dim:
        q, k, v = (F.pad(x, (0, dim - head_dim)) for x in (q, k, v))
    operands = Operands.empty(q, keys)
    chunks = triton.cdiv(keys, CHUNK)
    partial = torch.empty(4, batch * heads, chunks, dim, device=q.device)
    k_mean = torch.empty(batch * heads, dim, device=q.device)
    _measure[(chunks, batch * heads)](
        k, v, partial, *k.stride()[:3], *v.stride()[:3], keys, heads, chunks, DIM=dim, CHUNK=CHUNK, ROWS=ROWS,
    )  # fmt: skip
    _combine[(batch * heads,)](
        partial, k_mean, operands.v_mean, operands.v_scale, keys, batch * heads * chunks * dim, chunks, DIM=dim
    )
    query_blocks, key_blocks = operands.q.shape[1] // BLOCK, operands.k.shape[1] // BLOCK
    _rotate[(triton.cdiv(query_blocks, GROUP), batch * heads)](
        q, k_mean, operands.q, operands.q_scale, *q.stride()[:3], queries, query_blocks, heads,
        logit_factor(head_dim, dim), DIM=dim, BLOCK=BLOCK, GROUP=GROUP, KEYS=False, num_stages=2,
    )  # fmt: skip
    _rotate[(triton.cdiv(key_blocks, GROUP), batch * heads)](
        k, k_mean, operands.k, operands.k_scale, *k.stride()[:3], keys, key_blocks, heads,
        1.0, DIM=dim, BLOCK=BLOCK, GROUP=GROUP, KEYS=True, num_stages=2,
    )  # fmt: skip
    lost = torch.empty(batch * heads, key_blocks, dim, device=q.device)
    _transpose[(key_blocks, batch * heads)](
        v, operands.v_mean, operands.v_scale, operands.v, lost, *v.stride()[:3], keys, heads, DIM=dim, BLOCK=BLOCK
    )
    operands.v_mean.add_(lost.sum(1) * operands.v_scale / keys)
    return operands


@triton.jit
def _head(x, stride_batch, stride_head, heads):
    """Start of this program's head in `x`."""
    index = tl.program_id(1).to(tl.int64)
    return x + index // heads * stride_batch + index % heads * stride_head


@triton.jit
def _hadamard(DIM: tl.constexpr, dtype: tl.constexpr):
    """Sylvester's matrix of ±1, `[DIM, DIM]`: −1 where row and column number share an odd number of bits."""
    index = tl.arange(0, DIM)
    bits = index[:, None] & index[None, :]
    bits ^= bits >> 4
    bits ^= bits >> 2
    bits ^= bits >> 1
    return (1 - 2 * (bits & 1)).to(dtype)


@triton.jit
def _measure(
    k, v, partial, k_batch, k_token, k_head, v_batch, v_token, v_head, keys, heads, chunks,
    DIM: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sums of k and v, largest and smallest v over one chunk of tokens, by channel."""
    chunk = tl.program_id(0)
    channel = tl.arange(0, DIM)
    k = _head(k, k_batch, k_head, heads)
    v = _head(v, v_batch, v_head, heads)
    k_sum = tl.zeros((ROWS, DIM), tl.float32)
    v_sum = tl.zeros((ROWS, DIM), tl.float32)
    v_max = tl.full((ROWS, DIM), float("-inf"), tl.float32)
    v_min = tl.full((ROWS, DIM), float("inf"), tl.float32)
    for start in tl.range(0, CHUNK, ROWS, num_stages=4):
        token = chunk * CHUNK + start + tl.arange(0, ROWS)
        inside = token[:, None] < keys
        row = token.to(tl.int64)[:, None]
        values = tl.load(v + row * v_token + channel, inside, 0.0).to(tl.float32)
        k_sum += tl.load(k + row * k_token + channel, inside, 0.0).to(tl.float32)
        v_sum += values
        v_max = tl.maximum(v_max, tl.where(inside, values, float("-inf")))
        v_min = tl.minimum(v_min, tl.where(inside, values, float("inf")))
    size = tl.num_programs(1) * chunks * DIM
    out = partial + (tl.program_id(1) * chunks + chunk) * DIM + channel
    tl.store(out, tl.sum(k_sum, 0))
    tl.store(out + size, tl.sum(v_sum, 0))
    tl.store(out + 2 * size, tl.max(v_max, 0))
    tl.store(out + 3 * size, tl.min(v_min, 0))


@triton.jit
def _combine(partial, k_mean, v_mean, v_scale, keys, size, chunks, DIM: tl.constexpr):
    """Combine the chunks of one head: the rotated mean of k, the mean of v, the scale of v minus its mean."""
    channel = tl.arange(0, DIM)
    head = tl.program_id(0)
    k_sum = tl.zeros((DIM,), tl.float32)
    v_sum = tl.zeros((DIM,), tl.float32)
    v_max = tl.full((DIM,), float("-inf"), tl.float32)
    v_min = tl.full((DIM,), float("inf"), tl.float32)
    for chunk in range(chunks):
        at = partial + (head * chunks + chunk) * DIM + channel
        k_sum += tl.load(at)
        v_sum += tl.load(at + size)
        v_max = tl.maximum(v_max, tl.load(at + 2 * size))
        v_min = tl.minimum(v_min, tl.load(at + 3 * size))
    mean = v_sum / keys
    bound = tl.maximum(tl.maximum(v_max - mean, mean - v_min), 1e-20)
    rotated = tl.sum(_hadamard(DIM, tl.float32) * (k_sum / keys)[:, None], 0)
    tl.store(k_mean + head * DIM + channel, rotated)
    tl.store(v_mean + head * DIM + channel, mean)
    tl.store(v_scale + head * DIM + channel, bound / 448)


@triton.jit
def _round(x):
    """Round half to even, |x| < 2²²: a sum with 1.5 · 2²³ has no bits for fractions."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def _rotate(
    x, mean, codes, scales, x_batch, x_token, x_head, tokens, blocks, heads, factor,
    DIM: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """INT8 codes of rotated rows, block by block: of q with a scale per row, of k minus its mean with one per block."""
    head = tl.program_id(1)
    channel = tl.arange(0, DIM)
    first = tl.program_id(0) * GROUP
    x = _head(x, x_batch, x_head, heads)
    rotation = _hadamard(DIM, x.dtype.element_ty)
    for block in range(first, min(first + GROUP, blocks)):
        token = block * BLOCK + tl.arange(0, BLOCK)
        inside = token[:, None] < tokens
        y = tl.dot(tl.load(x + token.to(tl.int64)[:, None] * x_token + channel, inside, 0.0), rotation)
        if KEYS:
            y = tl.where(inside, y - tl.load(mean + head * DIM + channel), 0.0)
            bound = tl.maximum(tl.max(tl.abs(y)), 1e-20)
            tl.store(scales + head * blocks + block, bound / 127)
            y = y * (127 / bound)
        else:
            bounds = tl.maximum(tl.max(tl.abs(y), 1), 1e-20)
            tl.store(scales + head * blocks * BLOCK + token, bounds / 127 * factor)
            y = y * (127 / bounds)[:, None]
        out = codes + (head.to(tl.int64) * blocks * BLOCK + token)[:, None] * DIM + channel
        tl.store(out, _round(y).to(tl.int8))


@triton.jit
def _transpose(
    v, mean, scales, codes, lost, v_batch, v_token, v_head, keys, heads, DIM: tl.constexpr, BLOCK: tl.constexpr
):
    """FP8 codes of one block of v minus its mean, transposed, with the keys in `operands.key_order`.

    `lost` receives the sum of the rounding errors of each channel.
    """
    block = tl.program_id(0)
    head = tl.program_id(1)
    channel = tl.arange(0, DIM)
    place = tl.arange(0, BLOCK)
    # Place 16a + 4t + 2b + c holds key 16a + 8b + 2t + c.
    key = block * BLOCK + (place & ~15) + ((place & 2) << 2) + ((place & 12) >> 1) + (place & 1)
    inside = key[:, None] < keys
    at = _head(v, v_batch, v_head, heads) + key.to(tl.int64)[:, None] * v_token + channel
    centre = tl.load(mean + head * DIM + channel)
    scale = tl.load(scales + head * DIM + channel)
    values = tl.where(inside, (tl.load(at, inside, 0.0).to(tl.float32) - centre) / scale, 0.0)
    rounded = tl.clamp(values, -448.0, 448.0).to(codes.dtype.element_ty)
    tl.store(lost + (head * tl.num_programs(0) + block) * DIM + channel, tl.sum(values - rounded.to(tl.float32), 0))
    out = codes + (head.to(tl.int64) * DIM + channel)[:, None] * (tl.num_programs(0) * BLOCK) + block * BLOCK + place
    tl.store(out, tl.trans(rounded))
