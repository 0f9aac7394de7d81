"""Our INT8 engine with attention in full precision."""

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.attention import AUTO
from vq_infer.bench.models.engine import engine, why_not
from vq_infer.bench.models.workload import Workload
from vq_infer.engine.transformer import kernel_names

TITLE = "vq-infer INT8"
LINEARS = "int8"
ATTENTION = "plain"
LOADED_BYTES = 1
COMPILES = True


def missing(device: torch.device) -> str | None:
    """See `Contender.missing`."""
    return why_not(device, LINEARS)


def build(workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None) -> nn.Module:
    """See `Contender.build`."""
    return engine(workload, device, LINEARS, checkpoint, AUTO)


def runs_with(model: nn.Module, device: torch.device) -> tuple[str, ...]:
    """See `Contender.runs_with`."""
    return kernel_names(model)
