"""Smoothers, one module each; a smoother's name is its module's name.

A smoother is a pure function on one group: it maps the group's weights and statistics of its input to the vector s
`[in]` that divides the input and multiplies the weights' columns. The harness owns everything else.
"""

from typing import Literal, Protocol, cast

from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem
from vq_core.discover import load_plugin

Need = Literal["statistics", "tokens", "scheme"]


class Smoother(Protocol):
    """What a smoother's module provides."""

    NEEDS: frozenset[Need]
    """What it needs: `statistics` of the activations, sampled `tokens` (with statistics), the `scheme`."""

    def smoothing(self, problem: SmoothingProblem, options: SmootherOptions) -> Smoothing:
        """The smoothing vector of one group, and how it was found."""


def smoother_named(name: str) -> Smoother:
    """The smoother called `name`; refuses an unknown name."""
    return cast(Smoother, load_plugin(__name__, name))
