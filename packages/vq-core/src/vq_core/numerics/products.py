"""Products of codes, summed in fp32 or exactly: in 8-bit instructions of a CPU that has them, in bfloat16 on a GPU.

Every code of both formats is a bfloat16 value, and a product of two has at most 16 significant bits: only sums are
rounded. CPUs without 8-bit instructions multiply fp32 many times faster than int8.

No setting of torch is changed: those for fp32 products hold for the whole process, and another thread may be computing
in full precision. On the CPU torch multiplies bfloat16 into fp32 by such a setting alone, so FP8 is multiplied in fp32.
"""

from functools import cache

import torch
from torch import Tensor

from vq_core.numerics.codes import codes_as_fp32

# The longest K for which every partial sum of products of INT8 codes is an integer that fp32 holds exactly. Tokens stay
# within ±127; weights that LLMC has rounded may hold −128.
EXACT_K = 2**24 // (127 * 128)

WIDENED_K = 1536
"""Input features converted to fp32 at a time, so that the buffers stay in the cache."""


def product_of_codes(x: Tensor, weight: Tensor) -> Tensor:
    """x·weightᵀ of codes `[tokens, in]` and `[out, in]` of one format → fp32 `[tokens, out]`.

    On the CPU INT8's is exact: in int32, or in fp32 over each `EXACT_K` in features.
    """
    if x.is_cuda:
        return product_on_tensor_cores(x, weight)
    if weight.dtype == torch.int8:
        return _int32_sums(x, weight) if multiplies_int8() else _exact_parts(x, weight)
    return _fp32_sums(x, weight)


def product_on_tensor_cores(x: Tensor, weight: Tensor) -> Tensor:
    """`product_of_codes` of CUDA tensors: bfloat16 factors, fp32 sums."""
    return torch.mm(x.bfloat16(), weight.bfloat16().t(), out_dtype=torch.float32)


def _int32_sums(x: Tensor, weight: Tensor) -> Tensor:
    y = torch._int_mm(x, weight.t())
    return y.view(torch.float32).copy_(y)  # in place: new memory costs half the time of the product


def _exact_parts(x: Tensor, weight: Tensor) -> Tensor:
    y = torch.zeros(x.shape[0], weight.shape[0])
    for x_part, weight_part in zip(x.split(EXACT_K, dim=1), weight.split(EXACT_K, dim=1), strict=True):
        y += x_part.float() @ weight_part.float().t()
    return y


def _fp32_sums(x: Tensor, weight: Tensor) -> Tensor:
    y = torch.empty(x.shape[0], weight.shape[0])
    parts = zip(x.split(WIDENED_K, dim=1), weight.split(WIDENED_K, dim=1), strict=True)
    for number, (x_part, weight_part) in enumerate(parts):
        y.addmm_(codes_as_fp32(x_part), codes_as_fp32(weight_part).t(), beta=min(number, 1))
    return y


@cache
def multiplies_int8() -> bool:
    """Whether this processor has instructions for int8 products, without which they are far slower than fp32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_vnni") or has.get("amx_int8"))
