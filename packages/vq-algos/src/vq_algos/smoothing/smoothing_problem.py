"""What a smoother is given: the linears that read one input, and statistics of that input."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vq_core.artifacts.stats import Tokens
from vq_core.numerics.scheme import QuantScheme


@dataclass(frozen=True)
class SmoothingProblem:
    """One group.

    Attributes:
        weights: the linears' weights `[out_i, in]`, unsmoothed, of any float dtype; can be iterated repeatedly, and may
            load each weight only when the iteration reaches it.
        absmax: fp32 `[in]`, max |X| of each channel over all tokens of all calls; ones if nothing was collected.
        mean_abs: fp32 `[in]`, mean |X| likewise.
        fit, held_out: sampled tokens to solve on, and those of other prompts; None if none were collected.
        scheme: the formats that weights and activations will have; None if they are not known.
    """

    weights: Collection[Tensor]
    absmax: Tensor
    mean_abs: Tensor
    fit: Tokens | None = None
    held_out: Tokens | None = None
    scheme: QuantScheme | None = None


@dataclass(frozen=True)
class SmootherOptions:
    """Settings of single smoothers: SmoothQuant's migration strength `alpha`, AWQ's scale family `awq_version`."""

    alpha: float = 0.75
    awq_version: str = "v2"


@dataclass(frozen=True)
class Smoothing:
    """A smoothing vector s, fp32 `[in]`, positive and finite, and how it was found."""

    s: Tensor
    decision: Mapping[str, str | float] = field(default_factory=dict)
