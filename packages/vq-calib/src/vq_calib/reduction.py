"""All statistics of one linear's input at once: compiled into one pass over it on CUDA, eager elsewhere."""

import logging
import os
import shutil
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from vq_core.statistics import all_statistics

logger = logging.getLogger(__name__)

Reduce = Callable[[Tensor], dict[str, Tensor]]
"""Tokens `[tokens, in]` → every statistic of `vq_core.statistics` by name, `[in]` in the statistic's `DTYPE`."""

CHUNK_ELEMENTS = 2**23  # of the input at once where nothing is fused: keeps temporaries below 70 MB

MAX_SHAPES = 4096  # far more than the image sizes of any set of prompts; each shape is compiled once


def eager_reduction() -> Reduce:
    """A few passes over the input for every statistic, chunk by chunk."""
    statistics = all_statistics()

    def reduce_all(x: Tensor) -> dict[str, Tensor]:
        chunks = x.split(max(1, CHUNK_ELEMENTS // x.shape[1]))
        return {
            name: reduce(statistic.merge, (statistic.reduce(chunk).to(statistic.DTYPE) for chunk in chunks))
            for name, statistic in statistics.items()
        }

    return reduce_all


def compiled_reduction() -> Reduce:
    """One pass over the input for all statistics together, through torch.compile.

    Every shape has its own static kernel, chosen without timing, so that the result depends on the input alone and
    not on what ran before it: a resumed run gives the same bits.
    """
    statistics = all_statistics()

    def reduce_all(x: Tensor) -> dict[str, Tensor]:
        return {name: statistic.reduce(x).to(statistic.DTYPE) for name, statistic in statistics.items()}

    compiled = torch.compile(reduce_all, fullgraph=True, dynamic=False, options={"deterministic": True})

    def reduce_each_shape(x: Tensor) -> dict[str, Tensor]:
        with torch._dynamo.config.patch(recompile_limit=MAX_SHAPES, accumulated_recompile_limit=MAX_SHAPES):
            return compiled(x)

    return reduce_each_shape


def can_compile(device: str) -> bool:
    """Whether `device` is CUDA and has what torch.compile needs: Triton and a C compiler for its launchers."""
    from torch.utils._triton import has_triton

    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return torch.device(device).type == "cuda" and has_triton() and any(map(shutil.which, filter(None, compilers)))


def reduction_for(device: str) -> tuple[str, Reduce]:
    """The fastest reduction on `device`, and its name: `compiled` or `eager`."""
    if can_compile(device):
        return "compiled", compiled_reduction()
    if torch.device(device).type == "cuda":
        logger.warning("Statistics cost about 30 %% of the sampling time: install Triton and a C compiler for 3 %%.")
    return "eager", eager_reduction()
