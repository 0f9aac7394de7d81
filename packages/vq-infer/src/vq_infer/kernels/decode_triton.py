"""`vq_core.numerics.grouped.unpack` as one kernel: every byte is read once, and every code written once."""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_core.numerics.grouped import GROUP, TABLES, Packed
from vq_core.numerics.quantize import Quantized

BLOCK = 1024


def decode(packed: Packed) -> Quantized:
    """The INT8 codes `[out, in]` of `packed`, on its GPU."""
    rows, groups = packed.group_scale.shape
    features = groups * GROUP
    codes = torch.empty(rows, features, dtype=torch.int8, device=packed.codes.device)
    _decode_kernel[(rows, triton.cdiv(features, BLOCK))](
        packed.codes.view(torch.uint8), packed.group_scale.view(torch.uint8), _table(codes.device), codes, features,
        WIDTH=packed.codes.shape[1], BITS=packed.bits, GROUP=GROUP, BLOCK=BLOCK,
        enable_fp_fusion=False,  # a product that is rounded, as in torch
    )  # fmt: skip
    return Quantized(codes, packed.scale, packed.rotation)


@cache
def _table(device: torch.device) -> Tensor:
    """What 4-bit codes stand for, fp32 `[16]`; made once, because a copy to the GPU waits for all that is queued."""
    return torch.tensor(TABLES[4], device=device)


@triton.jit
def _decode_kernel(
    packed_ptr, scale_ptr, table_ptr, codes_ptr, features,
    WIDTH: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < features
    low = tl.load(packed_ptr + row * WIDTH + column // 2, inside, 0).to(tl.int32)
    code = (low >> (4 * (column % 2))) & 15
    if BITS == 6:
        high = tl.load(packed_ptr + row * WIDTH + features // 2 + column // 4, inside, 0).to(tl.int32)
        level = (code | (((high >> (2 * (column % 4))) & 3) << 4)).to(tl.float32) - 32.0
    else:
        level = tl.load(table_ptr + code)
    # An E4M3 number is positive here: exponent and mantissa where fp32 has its own are the value times 2⁷⁻¹²⁷.
    bits = tl.load(scale_ptr + row * (features // GROUP) + column // GROUP, inside, 0).to(tl.int32)
    scale = (bits << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2¹²⁰
    value = (level * scale + 12582912.0) - 12582912.0  # 1.5·2²³: rounded half to even
    value = tl.minimum(tl.maximum(value, -127.0), 127.0)
    tl.store(codes_ptr + row * features + column, value.to(tl.int8), inside)
