"""`norm_rope` as one kernel: queries and keys are read once, from the output of the product for q, k and v."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_infer.fused.norm_rope import Rope
from vq_infer.fused.triton_rows import load_row, row_options, store_row


def norm_rope(x: Tensor, weights: Tensor, eps: float, rope: Rope | None, heads: int) -> tuple[Tensor, ...]:
    """See `vq_infer.fused.norm_rope.norm_rope`."""
    batch, tokens, _ = x.shape
    parts, dim = weights.shape
    if x.stride(-1) != 1 or x.stride(0) != tokens * x.stride(1):
        x = x.contiguous()
    weights = weights.contiguous()
    out = torch.empty(parts, batch, tokens, heads, dim // heads, dtype=x.dtype, device=x.device)
    cos, sin = (weights, weights) if rope is None else (rope.cos.contiguous(), rope.sin.contiguous())
    _kernel[(batch * tokens, parts)](
        x, weights, cos, sin, out, batch * tokens, tokens, x.stride(1), dim, eps,
        HEAD_DIM=dim // heads, ROTATE=rope is not None, **row_options(dim),
    )  # fmt: skip
    return tuple(out)


@triton.jit
def _kernel(
    x_ptr, weights_ptr, cos_ptr, sin_ptr, out_ptr, rows, tokens, stride, dim, eps,
    HEAD_DIM: tl.constexpr, ROTATE: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    x = load_row(x_ptr + row * stride + part * dim, dim, CHUNK, CHUNKS)
    weight = load_row(weights_ptr + part * dim, dim, CHUNK, CHUNKS)
    squares = tl.zeros_like(x[0])
    for i in tl.static_range(CHUNKS):
        squares += x[i] * x[i]
    inverse = tl.rsqrt(tl.sum(squares) / dim + eps)
    y = ()
    for i in tl.static_range(CHUNKS):
        value = x[i] * inverse * weight[i]
        if ROTATE:
            value = value.to(x_ptr.dtype.element_ty).to(tl.float32)
            even, odd = tl.split(tl.reshape(value, (CHUNK // 2, 2)))
            pairs = i * CHUNK // 2 + tl.arange(0, CHUNK // 2)
            at = (row % tokens) * HEAD_DIM + 2 * (pairs % (HEAD_DIM // 2))
            cos = tl.load(cos_ptr + at).to(tl.float32)
            sin = tl.load(sin_ptr + at + 1).to(tl.float32)
            value = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (CHUNK,))
        y = y + (value,)
    store_row(out_ptr + (part * rows + row) * dim, y, dim, CHUNK, CHUNKS)
