"""INT8 and FP8 on the CPU: in 8-bit or bfloat16 matrix instructions where it has them, else codes in fp32 products.

Processors without such instructions multiply fp32 many times faster than int8, and every code is an fp32 value.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from vq_core.numerics.quantize import Quantized

NAME = "int32 or fp32 product of codes (CPU)"
MULTIPLE = 1

# The longest K for which every partial sum of products of INT8 codes is an integer that fp32 holds exactly. Tokens stay
# within ±127; weights that LLMC has rounded may hold −128.
EXACT_K = 2**24 // (127 * 128)
E4M3_BITS = 0x87F00000 - 2**32
"""Sign, exponent and mantissa of an E4M3 code where fp32 has its own, as an int32."""


def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """See `Kernel.multiply`. INT8's product is exact in int32; in fp32 it is over each `EXACT_K` in features."""
    if weight.codes.dtype == torch.int8:
        y = torch._int_mm(x.codes, weight.codes.t()).float() if multiplies_int8() else _exact_parts(x, weight)
    else:
        with _codes_as_bfloat16():
            y = widened(x.codes) @ widened(weight.codes).t()
    y *= x.scale
    y *= weight.scale.t()
    if bias is not None:
        y += bias
    return y.to(dtype)


def _exact_parts(x: Quantized, weight: Quantized) -> Tensor:
    y = torch.zeros(x.codes.shape[0], weight.codes.shape[0])
    for x_part, weight_part in zip(x.codes.split(EXACT_K, dim=1), weight.codes.split(EXACT_K, dim=1), strict=True):
        y += widened(x_part) @ widened(weight_part).t()
    return y


@contextmanager
def _codes_as_bfloat16() -> Iterator[None]:
    """Let fp32 products take their factors as bfloat16, which is what codes are: only the order of the sums changes.

    oneDNN then uses the matrix instructions for bfloat16, several times as fast, and still sums and stores in fp32;
    torch's own product of bfloat16 tensors would round its result. Elsewhere oneDNN multiplies as before.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch makes it as it is imported
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16" if multiplies_bfloat16() else before
    try:
        yield
    finally:
        matmul.fp32_precision = before


@cache
def multiplies_int8() -> bool:
    """Has this processor what torch multiplies int8 with? Without that it takes many times as long as fp32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_vnni") or has.get("amx_int8"))


@cache
def multiplies_bfloat16() -> bool:
    """Has this processor matrix instructions for bfloat16?"""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def widened(codes: Tensor) -> Tensor:
    """The codes, int8 or finite float8_e4m3fn of any shape, as fp32.

    An E4M3 code is sign, 4 bits of exponent with bias 7, and 3 of mantissa. Where fp32 has its sign, the lowest of its
    8 bits of exponent with bias 127 and the highest of its mantissa, they are the value times 2⁷⁻¹²⁷, subnormal or not.
    That takes a quarter of the time of torch's own conversion.
    """
    if codes.dtype == torch.int8:
        return codes.float()
    bits = codes.view(torch.int8).to(torch.int32).bitwise_left_shift_(20).bitwise_and_(E4M3_BITS)
    return bits.view(torch.float32).mul_(2.0**120)
