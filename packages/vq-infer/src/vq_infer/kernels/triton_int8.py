"""INT8 on the GPU's tensor cores: an exact int32 product with scales and bias applied as it is stored, in Triton.

Triton tries the tiles for each new shape and keeps the best on disk.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from vq_core.numerics.quantize import Quantized

NAME = "Triton INT8 product (CUDA)"
MULTIPLE = 16  # bytes: the copy engine moves rows of such multiples

TILES = (
    (128, 256, 128, 3, 8),
    (256, 128, 128, 3, 8),
    (128, 128, 128, 4, 4),
    (64, 128, 128, 4, 4),
    (128, 128, 64, 3, 4),
)
"""Rows, columns and depth of a tile, tiles in flight, warps: the first two are Hopper's, the last fits older GPUs."""

CHECK_SIZE = 256


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `ProductKernel.multiply`."""
    m, k = x.codes.shape
    n = len(weight.codes)
    y = torch.empty(m, n, dtype=dtype, device=x.codes.device)
    triton.set_allocator(_scratch)  # for the copy engine's descriptors, which the kernel makes itself
    processors = torch.cuda.get_device_properties(y.device).multi_processor_count if y.is_cuda else 1
    _kernel[(processors,)](
        x.codes, weight.codes, y, x.scale, weight.scale, weight.scale if bias is None else bias,
        m, n, k, HAS_BIAS=bias is not None,
    )  # fmt: skip
    return y


@cache
def disagreement(device: torch.device) -> str | None:
    """Why this kernel cannot be used on `device`: it does not run, or differs from torch's; None if it agrees."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (
        torch.randint(-127, 128, (CHECK_SIZE, CHECK_SIZE), generator=generator, device=device, dtype=torch.int8)
        for _ in range(2)
    )
    ones = torch.ones(CHECK_SIZE, 1, device=device)
    try:
        product = multiply(Quantized(a, ones), Quantized(b, ones), None, torch.float32)
    except Exception as error:  # noqa: BLE001 - whatever Triton's compiler or the driver raise, the other kernel runs
        return f"{type(error).__name__}: {error}"
    return None if torch.equal(product, torch._int_mm(a, b.t()).float()) else "its products are wrong"


def _scratch(size: int, alignment: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")


@triton.autotune(
    [
        triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "GROUP_M": 8}, num_stages=stages, num_warps=warps)
        for m, n, k, stages, warps in TILES
    ],
    key=["m", "n", "k"],
    cache_results=True,
)
@triton.jit(do_not_specialize=["m"])
def _kernel(
    a_ptr, b_ptr, y_ptr, a_scale_ptr, b_scale_ptr, bias_ptr, m, n, k,
    HAS_BIAS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    a = tl.make_tensor_descriptor(a_ptr, [m, k], [k, 1], [BLOCK_M, BLOCK_K])
    b = tl.make_tensor_descriptor(b_ptr, [n, k], [k, 1], [BLOCK_N, BLOCK_K])
    y = tl.make_tensor_descriptor(y_ptr, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    tiles_m, tiles_n = tl.cdiv(m, BLOCK_M), tl.cdiv(n, BLOCK_N)
    group = GROUP_M * tiles_n
    # One program a multiprocessor goes through the tiles, GROUP_M rows of them together: their inputs stay in L2.
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        first = (tile // group) * GROUP_M
        height = tl.minimum(tiles_m - first, GROUP_M)
        row = (first + (tile % group) % height) * BLOCK_M
        column = ((tile % group) // height) * BLOCK_N
        product = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
        for inner in range(0, k, BLOCK_K):
            product = tl.dot(a.load([row, inner]), b.load([column, inner]).T, product, out_dtype=tl.int32)
        rows, columns = row + tl.arange(0, BLOCK_M), column + tl.arange(0, BLOCK_N)
        a_scale = tl.load(a_scale_ptr + rows, rows < m, 0.0)
        b_scale = tl.load(b_scale_ptr + columns, columns < n, 0.0)
        out = product.to(tl.float32) * a_scale[:, None] * b_scale[None, :]
        if HAS_BIAS:
            out += tl.load(bias_ptr + columns, columns < n, 0.0).to(tl.float32)[None, :]
        y.store([row, column], out.to(y_ptr.dtype.element_ty))
