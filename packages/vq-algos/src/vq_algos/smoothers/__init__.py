"""Smoothers, one module each; a smoother's name is its module's name.

A smoother is a pure function on one group: it maps the group's statistics and weights to the vector s `[in]` by which
the input is divided and the weights' columns are multiplied. The harness owns everything else.
"""

from typing import Protocol, cast

from torch import Tensor

from vq_core.discover import load_plugin


class Smoother(Protocol):
    """What a smoother's module provides."""

    NEEDS_STATISTICS: bool
    """Must activations have been collected?"""

    def smoothing(self, activation_absmax: Tensor, weight_absmax: Tensor, alpha: float) -> Tensor:
        """The smoothing vector s of one group.

        Args:
            activation_absmax: fp32 `[in]`, max |X| of each channel of the input.
            weight_absmax: fp32 `[in]`, max |W| of each column over all linears of the group.
            alpha: migration strength, 0 to 1.

        Returns:
            fp32 `[in]`, positive and finite.
        """


def smoother_named(name: str) -> Smoother:
    """The smoother called `name`; refuses an unknown name."""
    return cast(Smoother, load_plugin(__name__, name))
