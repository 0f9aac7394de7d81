"""`sum_quantize` and `gelu_quantize` as one kernel: every row is read once and its codes are written once."""

import triton
import triton.language as tl
from torch import Tensor

from vq_core.numerics.quantize import Quantized
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.tokens import Tokens
from vq_infer.fused.triton_rows import empty_tokens, load_row, rotate_row, row_options, store_tokens

SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)


def sum_quantize(x: Tensor, addend: Tensor | None, fmt: NumberFormat | None, rotation: int = NONE) -> Tokens:
    """See `vq_infer.fused.row_quantize.sum_quantize`."""
    return _quantize(x, addend, fmt, rotation, None, gelu=False)


def gelu_quantize(x: Tensor, fmt: NumberFormat | None, rotation: int = NONE, mean: Tensor | None = None) -> Tokens:
    """See `vq_infer.fused.row_quantize.gelu_quantize`."""
    return _quantize(x, None, fmt, rotation, mean if fmt else None, gelu=True)


def _quantize(
    x: Tensor, addend: Tensor | None, fmt: NumberFormat | None, rotation: int, mean: Tensor | None, *, gelu: bool
) -> Tokens:
    batch, tokens, dim = x.shape
    x = x.contiguous()
    addend = x if addend is None else addend.contiguous()
    out, scale = empty_tokens(x, fmt)
    _kernel[(batch * tokens,)](
        x, addend, x if mean is None else mean, out, scale, dim, fmt.qmax if fmt else 0.0,
        HAS_ADDEND=addend is not x, HAS_MEAN=mean is not None, GELU=gelu, ROTATION=rotation,
        FULL=fmt is None, IS_INT8=fmt is NumberFormat.INT8, **row_options(dim),
    )  # fmt: skip
    return Quantized(out, scale, rotation) if fmt else out


@triton.jit
def _kernel(
    x_ptr, addend_ptr, mean_ptr, out_ptr, scale_ptr, dim, qmax,
    HAS_ADDEND: tl.constexpr, HAS_MEAN: tl.constexpr, GELU: tl.constexpr, ROTATION: tl.constexpr,
    FULL: tl.constexpr, IS_INT8: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    x = load_row(x_ptr + row * dim, dim, CHUNK, CHUNKS)
    if HAS_ADDEND:
        addend = load_row(addend_ptr + row * dim, dim, CHUNK, CHUNKS)
    if HAS_MEAN:
        mean = load_row(mean_ptr, dim, CHUNK, CHUNKS)
    y = ()
    for i in tl.static_range(CHUNKS):
        value = x[i]
        if HAS_ADDEND:
            value += addend[i]
        if GELU:
            # x·(1 + tanh(u))/2 is x·sigmoid(2u).
            u = SQRT_2_OVER_PI * (value + 0.044715 * value * value * value)
            value = value / (1.0 + tl.exp(-2.0 * u))
        value = value.to(x_ptr.dtype.element_ty).to(tl.float32)
        if HAS_MEAN:
            value -= mean[i]
        y = y + (value,)
    y = rotate_row(y, ROTATION, CHUNK, CHUNKS)
    store_tokens(out_ptr + row * dim, scale_ptr + row, y, dim, qmax, FULL, IS_INT8, CHUNK, CHUNKS)
