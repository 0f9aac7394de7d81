"""The kinds of work in a block, and the kind of a kernel.

The kind follows from the first of these that decides: the range that our engine is in (`ranges`), the torch operation
that launched the kernel with the shapes of its inputs, and the kernel's name.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "vq/"
"""Prefix of the names of ranges."""


class Kind(StrEnum):
    """The work of a kernel in the block."""

    LINEAR_ATTENTION = "linears: q, k, v, o of both attentions"
    LINEAR_FFN = "linears: feed-forward"
    LINEAR_CONTEXT = "linears: k, v of text and image"
    LINEAR = "linears, which is not told"
    SELF_ATTENTION = "self-attention"
    CROSS_ATTENTION = "cross-attention"
    NORM = "norm, modulation, residual, quantization"
    ROPE = "RMSNorm and rotation of q, k"
    GELU = "GELU, quantization"
    QUANTIZE = "quantization of attention's output"
    ELEMENTWISE = "other passes over memory"
    OTHER = "outside the blocks, and other"


@dataclass(frozen=True)
class Shape:
    """The sizes by which operations are told apart: the video's tokens, and the widths of model and feed-forward."""

    tokens: int
    dim: int
    ffn: int


@dataclass(frozen=True)
class Launch:
    """One kernel, or on the CPU one operation, with its origin and duration.

    Attributes:
        name: of the kernel.
        microseconds: on the device.
        op: the torch operation that launched it, or empty.
        dims: shapes of that operation's inputs; empty for an input that is not a tensor.
        ranges: the named ranges around the launch, from the outermost.
    """

    name: str
    microseconds: float
    op: str = ""
    dims: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[str, ...] = ()


PRODUCTS = {"aten::mm": 0, "aten::_int_mm": 0, "aten::_scaled_mm": 0, "aten::addmm": 1, "aten::bmm": 0}
"""Matrix products, and the position of the left operand among their inputs."""

# The first match in a kernel's name decides; the name of a fused kernel contains those of the operations in it.
NAMES = (
    (Kind.GELU, r"gelu"),
    (Kind.SELF_ATTENTION, r"flash|fmha|attn|attention|sdpa|softmax"),
    (Kind.LINEAR, r"gemm|matmul|nvjet|cutlass|_mm_|\bmm\b|scaled_mm|int_mm|decode_kernel"),
    (Kind.ROPE, r"rms_norm|rmsnorm|rope|rotary"),
    (Kind.NORM, r"layer_norm|layernorm|norm_quantize"),
    (Kind.QUANTIZE, r"quant|amax|absmax|scale"),
    (Kind.ELEMENTWISE, r"elementwise|triton_|reduce|copy|cat|memcpy|memset|fill|stack|mul|add|sub|div|to_copy|norm"),
)


def kind_of(launch: Launch, shape: Shape) -> Kind:
    """The kind of work of `launch`."""
    for name in reversed(launch.ranges):
        if name.startswith(PREFIX):
            return range_kind(name.removeprefix(PREFIX), shape)
    if launch.op in PRODUCTS:
        dims = launch.dims[PRODUCTS[launch.op] :][:2]
        if len(dims) == 2 and all(len(size) >= 2 for size in dims):
            return _product_kind(dims[0][-2], dims[0][-1], dims[1][-1], shape)
    if "scaled_dot_product" in launch.op and len(launch.dims) > 1:
        return _attention_kind(launch.dims[0], launch.dims[1])
    if "convolution" in launch.op or "conv" in launch.name:
        return Kind.OTHER
    name = f"{launch.op} {launch.name}".lower()
    return next((kind for kind, pattern in NAMES if re.search(pattern, name)), Kind.OTHER)


def linear_range(tokens: int, in_features: int, out_features: int) -> str:
    """Name of the range of a linear."""
    return f"{PREFIX}linear {tokens} {in_features} {out_features}"


def kind_range(kind: Kind) -> str:
    """Name of the range of work that is not a linear."""
    return f"{PREFIX}{kind.name}"


def range_kind(name: str, shape: Shape) -> Kind:
    """Kind of the range called `name`, which is a linear with its sizes or a kind's own name."""
    if not name.startswith("linear "):
        return Kind[name]
    rows, inner, columns = map(int, name.split()[1:])
    return _product_kind(rows, inner, columns, shape)


def _product_kind(rows: int, inner: int, columns: int, shape: Shape) -> Kind:
    if shape.ffn in (inner, columns) and rows % shape.tokens == 0:
        return Kind.LINEAR_FFN
    if inner != shape.dim or columns % shape.dim:
        return Kind.OTHER  # of the embedders, or the projection to the latent
    return Kind.LINEAR_ATTENTION if rows % shape.tokens == 0 else Kind.LINEAR_CONTEXT


def _attention_kind(query: tuple[int, ...], key: tuple[int, ...]) -> Kind:
    """Of `[batch, heads, tokens, head_dim]`: self-attention has as many keys as queries."""
    return Kind.SELF_ATTENTION if query[-2] == key[-2] else Kind.CROSS_ATTENTION
