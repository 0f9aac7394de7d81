"""Number formats and the quantization schemes that the runtimes can run."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vq_core.errors import VqError


class NumberFormat(StrEnum):
    """An 8-bit format; both are symmetric around zero."""

    INT8 = "int8"
    FP8_E4M3 = "fp8_e4m3"

    @property
    def qmax(self) -> float:
        """Largest magnitude of a code: 127 (−128 is never used) or 448."""
        return 127.0 if self is NumberFormat.INT8 else 448.0


class Rounding(StrEnum):
    """How a value between two codes is rounded.

    NEAREST_EVEN: ties to the even code (IEEE 754), as the runtimes' kernels do.
    QTORCH: ties away from zero in E4M3, as QPyTorch and therefore LLMC do; INT8 is the same in both. LLMC's codes are
        others still, because it computes scale and quotient in bfloat16, and both are fp32 here.
    """

    NEAREST_EVEN = "nearest-even"
    QTORCH = "qtorch"


ROUNDING_NOTE = "ties as LLMC rounds them, but 5 to 6 % of its codes differ: it divides in bfloat16"
"""What `Rounding.QTORCH` gives, for help and summaries; measured on LLMC's own FP8 checkpoint."""


@dataclass(frozen=True)
class QuantScheme:
    """Weights: static, one scale per output channel (`[out, in]` → `[out, 1]`).

    Activations: dynamic, one scale per token (`[..., in]` → `[..., 1]`). Both symmetric.

    Attributes:
        weight: the format of weights as they are multiplied.
        bits: in which a weight is stored. Fewer than 8 decode to INT8, see `vq_core.numerics.grouped`.
    """

    name: str
    weight: NumberFormat
    activation: NumberFormat
    bits: int = 8

    @property
    def grouped(self) -> bool:
        """Do groups of weights have scales of their own? Then all inputs are rotated, as the runtimes have it."""
        return self.bits < 8


INT8 = QuantScheme("int8", NumberFormat.INT8, NumberFormat.INT8)
FP8 = QuantScheme("fp8", NumberFormat.FP8_E4M3, NumberFormat.FP8_E4M3)
W8A8 = (INT8, FP8)
W6A8 = QuantScheme("w6a8", NumberFormat.INT8, NumberFormat.INT8, bits=6)
W4A8 = QuantScheme("w4a8", NumberFormat.INT8, NumberFormat.INT8, bits=4)

SCHEMES = {scheme.name: scheme for scheme in (*W8A8, W6A8, W4A8)}
MIX = "+"
"""Joins the names of schemes of which each linear has one: `int8+fp8`."""


def scheme_named(name: str, among: Mapping[str, QuantScheme] = SCHEMES) -> QuantScheme:
    """The scheme called `name`.

    Raises:
        VqError: `among` these is none of that name.
    """
    if name not in among:
        *first, last = among
        several = f", or several, joined by {MIX}" if among is SCHEMES else ""
        raise VqError(
            f"`{name}` is not a scheme that the targets can run: choose {', '.join(first)} or {last} "
            f"(weights in groups or per channel, 8-bit activations per token){several}."
        )
    return among[name]


def schemes_named(name: str) -> tuple[QuantScheme, ...]:
    """The schemes of which each linear has one, such as INT8 and FP8 for `int8+fp8`; a single one for `int8`.

    Raises:
        VqError: one is no scheme, or is named twice.
    """
    schemes = tuple(map(scheme_named, name.split(MIX)))
    if len(set(schemes)) < len(schemes):
        raise VqError(f"`{name}` names a scheme twice: name each once.")
    return schemes


def plain_scheme_named(name: str) -> QuantScheme:
    """The scheme called `name`, for weights that are converted without calibration.

    Raises:
        VqError: no such scheme, or one that is nothing without calibration.
    """
    plain = {scheme.name: scheme for scheme in W8A8}
    if name in SCHEMES.keys() - plain.keys() or MIX in name:
        raise VqError(
            f"`{name}` is for calibrated transformers: run vq-algos smooth and quantize and give --weights and "
            f"--qparams, or choose {' or '.join(plain)}."
        )
    return scheme_named(name, plain)
