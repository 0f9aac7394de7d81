"""`gated_sum` as one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_infer.fused.triton_rows import load_row, row_options, store_row, vector_strides


def gated_sum(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """See `vq_infer.fused.gated_sum.gated_sum`."""
    batch, tokens, dim = x.shape
    x, update = x.contiguous(), update.contiguous()
    out = torch.empty_like(x)
    _kernel[(tokens, batch)](x, update, gate, out, tokens, dim, *vector_strides(gate), **row_options(dim))
    return out


@triton.jit
def _kernel(
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
