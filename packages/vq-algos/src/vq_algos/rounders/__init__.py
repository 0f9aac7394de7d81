"""Rounders, one module each; a rounder's name is its module's name.

A rounder is a pure function on one linear: it maps the weight to codes and scales. The harness owns everything else.
"""

from typing import Protocol, cast

from torch import Tensor

from vq_core.discover import load_plugin
from vq_core.numerics.quantize import Quantized
from vq_core.scheme import NumberFormat, Rounding


class Rounder(Protocol):
    """What a rounder's module provides."""

    def quantize(self, weight: Tensor, fmt: NumberFormat, rounding: Rounding) -> Quantized:
        """Codes and scale of `weight` `[out, in]`, one scale per output channel."""


def rounder_named(name: str) -> Rounder:
    """The rounder called `name`; refuses an unknown name."""
    return cast(Rounder, load_plugin(__name__, name))
