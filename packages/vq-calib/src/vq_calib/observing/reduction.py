"""All statistics of one linear's input: compiled into a pass by channel and one by token on CUDA, eager elsewhere."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from vq_core.artifacts.histograms import HISTOGRAMS, HalfOctaves
from vq_core.statistics import all_statistics

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

CHUNK_ELEMENTS = 2**23  # of the input at once where nothing is fused, which keeps temporaries below 70 MB

MAX_SHAPES = 4096  # far more than the image sizes of any set of prompts; each shape is compiled once


class Rows(NamedTuple):
    """Statistics of the tokens of one input.

    Attributes:
        absmax: fp32 `[tokens]`.
        absmax_histogram: int64 `[bins]`.
        crest_histogram: int64 `[bins]`.
        non_finite: int64 scalar, how many tokens hold NaN, Inf, or values whose squares overflow.
    """

    absmax: Tensor
    absmax_histogram: Tensor
    crest_histogram: Tensor
    non_finite: Tensor


@dataclass(frozen=True)
class Reduction:
    """Two functions of an input `[tokens, in]`.

    Attributes:
        name: `compiled` or `eager`.
        channels: every statistic of `vq_core.statistics` by name, `[in]` in its `DTYPE`, rounded to its `GRID`.
        rows: see `Rows`.
    """

    name: str
    channels: Callable[[Tensor], dict[str, Tensor]]
    rows: Callable[[Tensor], Rows]


def eager_reduction() -> Reduction:
    """A few passes over the input for every statistic, chunk by chunk."""
    statistics = all_statistics()

    def chunks(x: Tensor) -> tuple[Tensor, ...]:
        return x.split(max(1, CHUNK_ELEMENTS // x.shape[1]))

    def channels(x: Tensor) -> dict[str, Tensor]:
        return {
            name: on_grid(
                reduce(statistic.merge, (statistic.reduce(chunk).to(statistic.DTYPE) for chunk in chunks(x))),
                statistic.GRID,
            )
            for name, statistic in statistics.items()
        }

    def rows(x: Tensor) -> Rows:
        absmax, square_sum = zip(*map(_row_norms, chunks(x)), strict=True)
        return _describe_rows(torch.cat(absmax), torch.cat(square_sum), x.shape[1])

    return Reduction("eager", channels, rows)


def compiled_reduction() -> Reduction:
    """One pass over the input for all statistics by channel and one by token, through torch.compile.

    Every shape has its own static kernel, chosen without timing, so that the result depends only on the input and not
    on what ran before it: a resumed run gives the same bits.
    """
    statistics = all_statistics()

    def channels(x: Tensor) -> dict[str, Tensor]:
        return {
            name: on_grid(statistic.reduce(x).to(statistic.DTYPE), statistic.GRID)
            for name, statistic in statistics.items()
        }

    def rows(x: Tensor) -> Rows:
        return _describe_rows(*_row_norms(x), x.shape[1])

    return Reduction("compiled", _compiled(channels), _compiled(rows))


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    compiled = torch.compile(function, fullgraph=True, dynamic=False, options={"deterministic": True})

    def call_each_shape(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch._dynamo.config.patch(recompile_limit=MAX_SHAPES, accumulated_recompile_limit=MAX_SHAPES):
            return compiled(*args, **kwargs)

    return call_each_shape


def on_grid(value: Tensor, grid: float | None) -> Tensor:
    """`value` rounded to multiples of `grid`, a power of two: see `vq_core.statistics` for why."""
    return value if grid is None else torch.round(value / grid) * grid


def _row_norms(x: Tensor) -> tuple[Tensor, Tensor]:
    """Absmax and sum of squares of every row, fp32 `[tokens]`."""
    return x.abs().amax(dim=1).float(), x.float().square().sum(dim=1)


def _describe_rows(absmax: Tensor, square_sum: Tensor, width: int) -> Rows:
    square = absmax.square()
    crest_square = torch.where(absmax > 0, square / (square_sum / width), 1.0)
    return Rows(
        absmax,
        _histogram(HISTOGRAMS["absmax"], square),
        _histogram(HISTOGRAMS["crest"], crest_square),
        (~square_sum.isfinite()).sum(),
    )


def _histogram(octaves: HalfOctaves, square: Tensor) -> Tensor:
    """Counts by comparison with every bin: unlike a scatter it is fused, and its order does not matter."""
    bins = torch.arange(octaves.bins, dtype=torch.int32, device=square.device)
    return (octaves.bin_of_square(square).unsqueeze(1) == bins).sum(dim=0)


def can_compile(device: str) -> bool:
    """Whether `device` is CUDA and has what torch.compile needs: Triton and a C compiler for its launchers."""
    from torch.utils._triton import has_triton

    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return torch.device(device).type == "cuda" and has_triton() and any(map(shutil.which, filter(None, compilers)))


def reduction_for(device: str) -> Reduction:
    """The fastest reduction on `device`."""
    if can_compile(device):
        return compiled_reduction()
    if torch.device(device).type == "cuda":
        logger.warning("Statistics slow sampling down without a compiler: install Triton and a C compiler.")
    return eager_reduction()
