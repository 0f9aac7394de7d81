"""Number formats and the quantization schemes that the runtimes can run."""

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
    """

    name: str
    weight: NumberFormat
    activation: NumberFormat


INT8 = QuantScheme("int8", NumberFormat.INT8, NumberFormat.INT8)
FP8 = QuantScheme("fp8", NumberFormat.FP8_E4M3, NumberFormat.FP8_E4M3)

SCHEMES = {scheme.name: scheme for scheme in (INT8, FP8)}


def scheme_named(name: str) -> QuantScheme:
    """The scheme called `name`.

    Raises:
        VqError: no such scheme; LightX2V runs W8A8 only, the same for every linear.
    """
    if name not in SCHEMES:
        raise VqError(
            f"`{name}` is not a scheme that the targets can run: choose {' or '.join(SCHEMES)} "
            "(8-bit weights per channel, 8-bit activations per token, the same for every linear of every block)."
        )
    return SCHEMES[name]
