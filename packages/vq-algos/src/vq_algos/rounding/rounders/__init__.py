"""Rounders, one module each; a rounder's name is its module's name.

A rounder is a pure function on the linears that read one input: it maps their weights, and sampled tokens of the input
if it needs them, to codes and scales. The harness owns everything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_core.discover import load_plugin
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import QuantScheme, Rounding


@dataclass(frozen=True)
class Rounded:
    """A rounded linear.

    Attributes:
        quantized: codes `[out, in]` and scale `[out, 1]`, a bfloat16 value; with groups if the scheme has them.
        decision: what was decided, as JSON scalars: `method`, the rounder's name, and that rounder's own figures.
    """

    quantized: Quantized
    decision: Mapping[str, str | float]


class Rounder(Protocol):
    """What a rounder's module provides."""

    NEEDS_TOKENS: bool
    """Does it need sampled tokens of the input?"""

    def quantize(
        self, weights: Sequence[Tensor], inputs: LinearInputs | None, scheme: QuantScheme, rounding: Rounding
    ) -> list[Rounded]:
        """Codes and scales of the linears that read one input: a scale per output channel, and one per group, if any.

        Args:
            weights: fp32 `[out_i, in]`, smoothed; not changed.
            inputs: sampled tokens of the smoothed input; None only where `NEEDS_TOKENS` is False.
            scheme: which codes a weight can have.
            rounding: where a value between two codes goes.

        Returns:
            One for each of `weights`, in their order.
        """


def rounder_named(name: str) -> Rounder:
    """The rounder called `name`; refuses an unknown name."""
    return cast(Rounder, load_plugin(__name__, name))
