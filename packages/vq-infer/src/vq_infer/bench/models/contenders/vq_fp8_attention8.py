"""Our FP8 engine with 8-bit attention."""

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.bench.models.engine import EIGHT_BIT, engine, why_not, why_not_eight_bit
from vq_infer.bench.models.workload import Workload
from vq_infer.engine.transformer import kernel_names

TITLE = "vq-infer FP8, 8-bit attention"
LINEARS = "fp8"
ATTENTION = "8-bit"
LOADED_BYTES = 1
COMPILES = True


def missing(device: torch.device) -> str | None:
    """See `Contender.missing`."""
    return why_not(device, LINEARS) or why_not_eight_bit(device)


def build(workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None) -> nn.Module:
    """See `Contender.build`."""
    return engine(workload, device, LINEARS, checkpoint, EIGHT_BIT)


def runs_with(model: nn.Module, device: torch.device) -> tuple[str, ...]:
    """See `Contender.runs_with`."""
    return kernel_names(model)
