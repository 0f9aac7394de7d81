"""The contenders, one file for each way to run the model; the file's name is what is asked for."""

from typing import Protocol

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.bench.models.workload import Workload

REFERENCE = "diffusers_eager"
"""The contender that all ratios and errors are to."""


class Contender(Protocol):
    """What a contender's module provides."""

    TITLE: str
    """How tables call it."""

    LINEARS: str
    """What its linears multiply: `plain` (bfloat16, on the CPU fp32), `int8` or `fp8`."""

    ATTENTION: str
    """What its self-attention multiplies: `plain` or `8-bit`."""

    LOADED_BYTES: int
    """Bytes of a weight, at the most, while the model is made: what is measured together must fit together."""

    COMPILES: bool
    """Is there a cache that makes a second start faster?"""

    def missing(self, device: torch.device) -> str | None:
        """Why it cannot run on `device`, in one sentence; None where it can. Loads nothing."""

    def build(
        self, workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None
    ) -> nn.Module:
        """The transformer, ready to be called; its weights are random unless a checkpoint gives them."""

    def runs_with(self, model: nn.Module, device: torch.device) -> tuple[str, ...]:
        """What computes its linears and its attention."""
