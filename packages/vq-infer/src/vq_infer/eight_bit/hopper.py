"""Gluon: the 8-bit attention kernel for Hopper; `reference.weigh` is the same in plain torch.

One warp loads K and V through the tensor memory accelerator, two warpgroups of 64 queries each compute. A warpgroup
has P·V of one key block on the tensor cores while it computes the softmax of the next, and one warpgroup's softmax
fills the time in which the other waits for its logits.
"""

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from vq_infer.eight_bit.operands import BLOCK, Operands

ROWS = gl.constexpr(64)  # queries of one warpgroup
KEYS = gl.constexpr(BLOCK)
# Adding it to an int32 below 2²² makes the bits of the fp32 number 1.5 · 2²³ + that integer: a conversion in one addition.
MAGIC_BITS = gl.constexpr(0x4B400000)
MAGIC = gl.constexpr(12582912.0)


@gluon.jit
def _load(
    q_desc,
    k_desc,
    v_desc,
    q_smem,
    k_smem,
    v_smem,
    q_full,
    k_full,
    k_empty,
    v_full,
    v_empty,
    q_row,
    k_row,
    v_row,
    blocks,
    STAGES: gl.constexpr,
    DIM: gl.constexpr,
):
    for half in gl.static_range(2):
        mbarrier.expect(q_full.index(half), ROWS * DIM)
        tma.async_copy_global_to_shared(q_desc, [q_row + half * ROWS, 0], q_full.index(half), q_smem.index(half))
    for block in range(blocks):
        stage = block % STAGES
        phase = (block // STAGES) & 1
        mbarrier.wait(k_empty.index(stage), phase ^ 1)
        mbarrier.expect(k_full.index(stage), KEYS * DIM)
        tma.async_copy_global_to_shared(k_desc, [k_row + block * KEYS, 0], k_full.index(stage), k_smem.index(stage))
        mbarrier.wait(v_empty.index(stage), phase ^ 1)
        mbarrier.expect(v_full.index(stage), KEYS * DIM)
        tma.async_copy_global_to_shared(v_desc, [v_row, block * KEYS], v_full.index(stage), v_smem.index(stage))


@gluon.jit
def _soften(s, highest, q_scale, k_scale):
    """Weights of one block of logits, the new maximum, the shrinkage of what came before, sums of weights by thread."""
    x = (s + MAGIC_BITS).to(gl.float32, bitcast=True)
    scale = q_scale * k_scale
    risen = gl.maximum(highest, (gl.max(x, 1) - MAGIC) * scale)
    offset = 8.0 - risen - MAGIC * scale
    weights = gl.exp2(gl.fma(x, scale[:, None], offset[:, None]))
    return weights, risen, gl.exp2(highest - risen)


@gluon.jit
def _thread_sum(weights):
    """`[ROWS, KEYS]` to `[ROWS, 4]`: what each of the four threads of a row holds, so that none waits for another."""
    return gl.sum(gl.sum(weights.reshape(ROWS, KEYS // 8, 4, 2), 3), 1)


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


@gluon.jit
def _compute(
    half: gl.constexpr,
    q_smem,
    k_smem,
    v_smem,
    q_full,
    k_full,
    k_empty,
    v_full,
    v_empty,
    q_scale,
    k_scale,
    v_scale,
    v_mean,
    out,
    out_batch,
    out_token,
    out_head,
    head,
    heads,
    q_row0,
    queries,
    padded_queries,
    missing,
    blocks,
    STAGES: gl.constexpr,
    DIM: gl.constexpr,
):
    s_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 32])
    o_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DIM, 32])
    p_layout: gl.constexpr = gl.DotOperandLayout(0, o_layout, 4)
    s_rows: gl.constexpr = gl.SliceLayout(1, s_layout)
    o_rows: gl.constexpr = gl.SliceLayout(1, o_layout)
    row = q_row0 + half * ROWS + gl.arange(0, ROWS, s_rows)
    q_scale = gl.load(q_scale + head * padded_queries + row)
    k_scale += head * blocks
    q = q_smem.index(half)
    zero_s = gl.zeros([ROWS, KEYS], gl.int32, s_layout)
    zero_o = gl.zeros([ROWS, DIM], gl.float32, o_layout)
    highest = gl.zeros([ROWS], gl.float32, s_rows)
    acc = zero_o
    t = zero_o

    mbarrier.wait(q_full.index(half), 0)
    mbarrier.wait(k_full.index(0), 0)
    s = warpgroup_mma(q, k_smem.index(0).permute((1, 0)), zero_s, use_acc=False, is_async=True)
    s = warpgroup_mma_wait(0, [s])
    mbarrier.arrive(k_empty.index(0))
    weights, highest, shrink = _soften(s, highest, q_scale, gl.load(k_scale))
    total = _thread_sum(weights)
    for block in range(1, blocks):
        stage = block % STAGES
        scale = gl.load(k_scale + block)
        mbarrier.wait(k_full.index(stage), (block // STAGES) & 1)
        # Packed here and not where the weights are made: bytes that live across iterations are unpacked and packed again.
        p = _pack(weights, p_layout)
        dead = weights.to(gl.int32, bitcast=True)
        s = warpgroup_mma(q, k_smem.index(stage).permute((1, 0)), dead, use_acc=False, is_async=True)
        before = (block - 1) % STAGES
        mbarrier.wait(v_full.index(before), ((block - 1) // STAGES) & 1)
        t = warpgroup_mma(p, v_smem.index(before).permute((1, 0)), t, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(1, [s])
        mbarrier.arrive(k_empty.index(stage))
        old_shrink = gl.convert_layout(shrink, o_rows)
        weights, highest, shrink = _soften(s, highest, q_scale, scale)
        sums = _thread_sum(weights)
        total = total * gl.convert_layout(shrink, gl.SliceLayout(1, total.type.layout))[:, None] + sums
        t = warpgroup_mma_wait(0, [t])
        mbarrier.arrive(v_empty.index(before))
        acc = gl.fma(acc, old_shrink[:, None], t)
    p = _pack(weights, p_layout)
    last = (blocks - 1) % STAGES
    mbarrier.wait(v_full.index(last), ((blocks - 1) // STAGES) & 1)
    t = warpgroup_mma(p, v_smem.index(last).permute((1, 0)), t, use_acc=False, is_async=True)
    t = warpgroup_mma_wait(0, [t])
    acc = gl.fma(acc, gl.convert_layout(shrink, o_rows)[:, None], t)

    weight = gl.convert_layout(gl.sum(total, 1), s_rows) - missing * gl.exp2(8.0 - highest)
    channel = gl.arange(0, DIM, gl.SliceLayout(0, o_layout))
    row = q_row0 + half * ROWS + gl.arange(0, ROWS, o_rows)
    v_scale = gl.load(v_scale + head * DIM + channel)
    v_mean = gl.load(v_mean + head * DIM + channel)
    inverse = gl.convert_layout(1.0 / weight, o_rows)
    y = acc * inverse[:, None] * v_scale[None, :] + v_mean[None, :]
    out += (head // heads).to(gl.int64) * out_batch + head % heads * out_head
    at = out + row.to(gl.int64)[:, None] * out_token + channel[None, :]
    gl.store(at, y.to(out.dtype.element_ty), (row < queries)[:, None])


@gluon.jit
def _attend(
    q_desc,
    k_desc,
    v_desc,
    q_scale,
    k_scale,
    v_scale,
    v_mean,
    out,
    out_batch,
    out_token,
    out_head,
    heads,
    queries,
    padded_queries,
    padded_keys,
    missing,
    STAGES: gl.constexpr,
    DIM: gl.constexpr,
):
    head = gl.program_id(1)
    q_row0 = gl.program_id(0) * (2 * ROWS)
    blocks = padded_keys // KEYS
    q_smem = gl.allocate_shared_memory(gl.int8, [2, ROWS, DIM], q_desc.layout)
    k_smem = gl.allocate_shared_memory(gl.int8, [STAGES, KEYS, DIM], k_desc.layout)
    v_smem = gl.allocate_shared_memory(gl.float8e4nv, [STAGES, DIM, KEYS], v_desc.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for half in gl.static_range(2):
        mbarrier.init(q_full.index(half), 1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_full.index(stage), 1)
        mbarrier.init(v_full.index(stage), 1)
        mbarrier.init(k_empty.index(stage), 2)
        mbarrier.init(v_empty.index(stage), 2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (
                _compute,
                (
                    0,
                    q_smem,
                    k_smem,
                    v_smem,
                    q_full,
                    k_full,
                    k_empty,
                    v_full,
                    v_empty,
                    q_scale,
                    k_scale,
                    v_scale,
                    v_mean,
                    out,
                    out_batch,
                    out_token,
                    out_head,
                    head,
                    heads,
                    q_row0,
                    queries,
                    padded_queries,
                    missing,
                    blocks,
                    STAGES,
                    DIM,
                ),
            ),
            (
                _compute,
                (
                    1,
                    q_smem,
                    k_smem,
                    v_smem,
                    q_full,
                    k_full,
                    k_empty,
                    v_full,
                    v_empty,
                    q_scale,
                    k_scale,
                    v_scale,
                    v_mean,
                    out,
                    out_batch,
                    out_token,
                    out_head,
                    head,
                    heads,
                    q_row0,
                    queries,
                    padded_queries,
                    missing,
                    blocks,
                    STAGES,
                    DIM,
                ),
            ),
            (
                _load,
                (
                    q_desc,
                    k_desc,
                    v_desc,
                    q_smem,
                    k_smem,
                    v_smem,
                    q_full,
                    k_full,
                    k_empty,
                    v_full,
                    v_empty,
                    head * padded_queries + q_row0,
                    head * padded_keys,
                    head * DIM,
                    blocks,
                    STAGES,
                    DIM,
                ),
            ),
        ],
        [4, 1],
        [240, 24],
    )


STAGES = 4
"""Key blocks in shared memory, of K and of V."""


def weigh(operands: Operands, keys: int, like: Tensor) -> Tensor:
    """See `reference.weigh`; the output in the shape and dtype of `like`, `[batch, queries, heads, head_dim]`."""
    batch, queries, heads, head_dim = like.shape
    dim = operands.q.shape[2]
    padded_queries, padded_keys = operands.q.shape[1], operands.k.shape[1]
    out = torch.empty(batch, queries, heads, dim, dtype=like.dtype, device=like.device)
    _attend[(padded_queries // (2 * ROWS.value), batch * heads)](
        _descriptor(operands.q.flatten(0, 1), ROWS.value),
        _descriptor(operands.k.flatten(0, 1), BLOCK),
        _descriptor(operands.v.flatten(0, 1), dim),
        operands.q_scale, operands.k_scale, operands.v_scale, operands.v_mean, out, *out.stride()[:3], heads, queries,
        padded_queries, padded_keys, padded_keys - keys, STAGES=STAGES, DIM=dim, num_warps=4,
    )  # fmt: skip
    return out[..., :head_dim]


def _descriptor(codes: Tensor, rows: int) -> TensorDescriptor:
    columns = min(codes.shape[1], BLOCK)
    layout = gl.NVMMASharedLayout(swizzle_byte_width=columns, element_bitwidth=8, rank=2)
    return TensorDescriptor.from_tensor(codes, [rows, columns], layout)
