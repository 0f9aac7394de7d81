"""Smoothers, one module each; a smoother's name is its module's name.

A smoother is a pure function on one group: it maps the group's weights and what is known of its input to the vector s
`[in]` by which the input is divided and the weights' columns are multiplied. The harness owns everything else.
"""

from typing import Literal, Protocol, cast

from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem
from vq_core.discover import load_plugin

Need = Literal["statistics", "tokens", "scheme"]


class Smoother(Protocol):
    """What a smoother's module provides."""

    NEEDS: frozenset[Need]
    """What must be there: `statistics` of the activations, sampled `tokens` (with statistics), the `scheme`."""

    def smoothing(self, problem: SmoothingProblem, options: SmootherOptions) -> Smoothing:
        """The smoothing vector of one group, and how it was found."""


def smoother_named(name: str) -> Smoother:
    """The smoother called `name`; refuses an unknown name."""
    return cast(Smoother, load_plugin(__name__, name))
