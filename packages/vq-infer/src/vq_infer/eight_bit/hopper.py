"""Gluon: softmax and both products of 8-bit attention on Hopper's tensor cores; `reference.weigh` is the same in torch.

Of the 128 queries of a program two warpgroups take 64 each, and one warp brings K and V in by the tensor memory
accelerator. A warpgroup keeps the product with V of one block of keys on the tensor cores while it computes the softmax
of the next. The exponentials are the scarcest resource: the warpgroups take turns at them, so that each has its
products and maxima computed while the other's exponentials run (FlashAttention-3, arXiv 2407.08608, section 3).
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from vq_infer.eight_bit.operands import BLOCK, Operands

try:
    from triton.experimental.gluon.language.nvidia.hopper.tma import async_load
except ImportError:  # its name in Triton 3.6
    from triton.experimental.gluon.language.nvidia.hopper.tma import async_copy_global_to_shared as async_load

STAGES = 4
"""Blocks of keys in shared memory, of K and of V."""

ROWS = gl.constexpr(64)  # queries of one warpgroup
KEYS = gl.constexpr(BLOCK)
# An int32 below 2²² plus these bits has the bits of the fp32 number 1.5 · 2²³ + integer: one addition converts it.
MAGIC_BITS = gl.constexpr(0x4B400000)
MAGIC = gl.constexpr(12582912.0)


def weigh(operands: Operands, keys: int, like: Tensor) -> Tensor:
    """See `reference.weigh`; the output in the shape and dtype of `like`, `[batch, queries, heads, head_dim]`."""
    batch, queries, heads, head_dim = like.shape
    _, padded_queries, dim = operands.q.shape
    padded_keys = operands.k.shape[1]
    out = torch.empty(batch, queries, heads, dim, dtype=like.dtype, device=like.device)
    _attend[(padded_queries // BLOCK, batch * heads)](
        _descriptor(operands.q.flatten(0, 1), ROWS.value),
        _descriptor(operands.k.flatten(0, 1), BLOCK),
        _descriptor(operands.v.flatten(0, 1), dim),
        operands.q_scale, operands.k_scale, operands.v_scale, operands.v_mean, out, *out.stride()[:3], heads, queries,
        padded_queries, padded_keys, padded_keys - keys, STAGES=STAGES, DIM=dim, num_warps=4,
    )  # fmt: skip
    return out[..., :head_dim].contiguous()


def _descriptor(codes: Tensor, rows: int) -> TensorDescriptor:
    """How tiles of `rows` rows of `codes`, at most `BLOCK` columns wide, are brought into shared memory."""
    columns = min(codes.shape[1], BLOCK)
    layout = gl.NVMMASharedLayout(swizzle_byte_width=columns, element_bitwidth=8, rank=2)
    return TensorDescriptor.from_tensor(codes, [rows, columns], layout)


# fmt: off
@gluon.jit
def _attend(
    q_tiles, k_tiles, v_tiles, q_scale, k_scale, v_scale, v_mean, out, out_batch, out_token, out_head, heads, queries,
    padded_queries, padded_keys, missing, STAGES: gl.constexpr, DIM: gl.constexpr,
):
    """One program: `2 · ROWS` queries of one head; `missing` keys of the padded ones are padding."""
    head = gl.program_id(1)
    first = gl.program_id(0) * (2 * ROWS)
    blocks = padded_keys // KEYS
    q = gl.allocate_shared_memory(gl.int8, [2, ROWS, DIM], q_tiles.layout)
    k = gl.allocate_shared_memory(gl.int8, [STAGES, KEYS, DIM], k_tiles.layout)
    v = gl.allocate_shared_memory(gl.float8e4nv, [STAGES, DIM, KEYS], v_tiles.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    turn = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for half in gl.static_range(2):
        mbarrier.init(q_full.index(half), 1)
        mbarrier.init(turn.index(half), 1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), 1)
        mbarrier.init(empty.index(stage), 2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (_compute, (0, q, k, v, q_full, full, empty, turn, q_scale, k_scale, v_scale, v_mean, out, out_batch,
                        out_token, out_head, head, heads, first, queries, padded_queries, missing, blocks,
                        STAGES, DIM)),
            (_compute, (1, q, k, v, q_full, full, empty, turn, q_scale, k_scale, v_scale, v_mean, out, out_batch,
                        out_token, out_head, head, heads, first, queries, padded_queries, missing, blocks,
                        STAGES, DIM)),
            (_load, (q_tiles, k_tiles, v_tiles, q, k, v, q_full, full, empty, head * padded_queries + first,
                     head * padded_keys, head * DIM, blocks, STAGES, DIM)),
        ],
        [4, 1],
        [240, 24],
    )


@gluon.jit
def _load(
    q_tiles, k_tiles, v_tiles, q, k, v, q_full, full, empty, q_row, k_row, v_row, blocks,
    STAGES: gl.constexpr, DIM: gl.constexpr,
):
    """Bring in the queries of both warpgroups, then K and V block by block as stages become empty."""
    for half in gl.static_range(2):
        mbarrier.expect(q_full.index(half), ROWS * DIM)
        async_load(q_tiles, [q_row + half * ROWS, 0], q_full.index(half), q.index(half))
    for block in range(blocks):
        stage = block % STAGES
        mbarrier.wait(empty.index(stage), ((block // STAGES) & 1) ^ 1)
        mbarrier.expect(full.index(stage), 2 * KEYS * DIM)
        async_load(k_tiles, [k_row + block * KEYS, 0], full.index(stage), k.index(stage))
        async_load(v_tiles, [v_row, block * KEYS], full.index(stage), v.index(stage))


@gluon.jit
def _compute(
    half: gl.constexpr, q_smem, k, v, q_full, full, empty, turn, q_scale, k_scale, v_scale, v_mean, out, out_batch,
    out_token, out_head, head, heads, first, queries, padded_queries, missing, blocks,
    STAGES: gl.constexpr, DIM: gl.constexpr,
):
    """The outputs of one warpgroup's queries, over two blocks of keys or more."""
    s_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 32])
    o_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DIM, 32])
    p_layout: gl.constexpr = gl.DotOperandLayout(0, o_layout, 4)
    s_rows: gl.constexpr = gl.SliceLayout(1, s_layout)
    o_rows: gl.constexpr = gl.SliceLayout(1, o_layout)
    first += half * ROWS
    q_scale = gl.load(q_scale + head * padded_queries + first + gl.arange(0, ROWS, s_rows))
    k_scale += head * blocks
    q = q_smem.index(half)
    acc = gl.zeros([ROWS, DIM], gl.float32, o_layout)
    highest = gl.zeros([ROWS], gl.float32, s_rows)

    mbarrier.wait(q_full.index(half), 0)
    mbarrier.wait(full.index(0), 0)
    s = warpgroup_mma(q, k.index(0).permute((1, 0)), gl.zeros([ROWS, KEYS], gl.int32, s_layout), use_acc=False)
    x, scale, offset, highest, shrink = _rescale(s, highest, q_scale, gl.load(k_scale))
    weights = gl.exp2(gl.fma(x, scale[:, None], offset[:, None]))
    total = _thread_sums(weights)
    mbarrier.wait(full.index(1), 0)
    # What is passed as the sum of a product that does not add is a place to put it: registers that are free.
    s = weights.to(gl.int32, bitcast=True)
    p = _pack(weights, p_layout)
    s = warpgroup_mma(q, k.index(1).permute((1, 0)), s, use_acc=False, is_async=True)
    t = warpgroup_mma(p, v.index(0).permute((1, 0)), acc, use_acc=False, is_async=True)
    s = warpgroup_mma_wait(1, [s])
    old_shrink = gl.convert_layout(shrink, o_rows)
    x, scale, offset, highest, shrink = _rescale(s, highest, q_scale, gl.load(k_scale + 1))
    weights = gl.exp2(gl.fma(x, scale[:, None], offset[:, None]))
    total = total * _like_sums(shrink, total) + _thread_sums(weights)
    for block in range(2, blocks):
        stage = block % STAGES
        next_scale = gl.load(k_scale + block)
        # Never accumulated inside the tensor core: in FP8 it keeps about 14 bits of a sum. Waited for across the end
        # of the loop, because the compiler would move a softmax of the same iteration behind the wait.
        t = warpgroup_mma_wait(0, [t])
        mbarrier.arrive(turn.index(1 - half), pred=block > 2)
        mbarrier.arrive(empty.index((block - 2) % STAGES))
        # Packed here and not where the weights are made: bytes that live across iterations would be taken apart.
        p = _pack(weights, p_layout)
        s = weights.to(gl.int32, bitcast=True)
        mbarrier.wait(full.index(stage), (block // STAGES) & 1)
        s = warpgroup_mma(q, k.index(stage).permute((1, 0)), s, use_acc=False, is_async=True)
        acc = gl.fma(acc, old_shrink[:, None], t)
        old_shrink = gl.convert_layout(shrink, o_rows)
        t = warpgroup_mma(p, v.index((block - 1) % STAGES).permute((1, 0)), t, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(1, [s])
        x, scale, offset, highest, shrink = _rescale(s, highest, q_scale, next_scale)
        mbarrier.wait(turn.index(half), (block - 1 + half) & 1)
        weights = gl.exp2(gl.fma(x, scale[:, None], offset[:, None]))
        total = total * _like_sums(shrink, total) + _thread_sums(weights)
    mbarrier.arrive(turn.index(1 - half))
    t = warpgroup_mma_wait(0, [t])
    acc = gl.fma(acc, old_shrink[:, None], t)
    p = _pack(weights, p_layout)
    t = warpgroup_mma(p, v.index((blocks - 1) % STAGES).permute((1, 0)), t, use_acc=False)
    acc = gl.fma(acc, gl.convert_layout(shrink, o_rows)[:, None], t)

    # Keys of padding have logits of 0 and, v being 0 there, are in nothing but the sum of weights.
    weight = gl.convert_layout(gl.sum(total, 1), s_rows) - missing * gl.exp2(8.0 - highest)
    inverse = gl.convert_layout(1.0 / weight, o_rows)
    row = first + gl.arange(0, ROWS, o_rows)
    channel = gl.arange(0, DIM, gl.SliceLayout(0, o_layout))
    v_scale = gl.load(v_scale + head * DIM + channel)
    v_mean = gl.load(v_mean + head * DIM + channel)
    y = acc * inverse[:, None] * v_scale[None, :] + v_mean[None, :]
    out += (head // heads).to(gl.int64) * out_batch + head % heads * out_head
    at = out + row.to(gl.int64)[:, None] * out_token + channel[None, :]
    gl.store(at, y.to(out.dtype.element_ty), (row < queries)[:, None])


@gluon.jit
def _rescale(s, highest, q_scale, k_scale):
    """Of one block: logits plus `MAGIC`, their scale and offset as exponents of weights; the maximum, the shrinkage."""
    x = (s + MAGIC_BITS).to(gl.float32, bitcast=True)
    scale = q_scale * k_scale
    most = gl.max(gl.max(x.reshape(ROWS, KEYS // 8, 8), 1), 1)
    risen = gl.maximum(highest, (gl.convert_layout(most, highest.type.layout) - MAGIC) * scale)
    return x, scale, 8.0 - risen - MAGIC * scale, risen, gl.exp2(highest - risen)


@gluon.jit
def _thread_sums(weights):
    """`[ROWS, KEYS]` to `[ROWS, 8]`: sums within threads, two of each row, so that none waits for another."""
    return gl.sum(weights.reshape(ROWS, KEYS // 8, 8), 1)


@gluon.jit
def _like_sums(rows, sums):
    return gl.convert_layout(rows, gl.SliceLayout(1, sums.type.layout))[:, None]


@gluon.jit
def _pack(weights, layout: gl.constexpr):
    """Weights in FP8 as the left side of the next product: no value leaves its thread, see `operands.key_order`."""
    weights = weights.reshape(ROWS, KEYS // 16, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(ROWS, KEYS)
    return gl.inline_asm_elementwise(
        "{.reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, $2, $1; cvt.rn.satfinite.e4m3x2.f32 high, $4, $3;"
        " mov.b32 $0, {low, high};}",
        "=r,r,r,r,r",
        [gl.convert_layout(weights, layout, assert_trivial=True)],
        dtype=gl.float8e4nv,
        is_pure=True,
        pack=4,
    )
