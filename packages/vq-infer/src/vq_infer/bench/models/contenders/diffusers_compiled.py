"""Diffusers with compiled blocks and cuDNN's attention: the fastest it is without quantization."""

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.bench.models.baselines import CUDNN, compiled, diffusers_model, no_cuda
from vq_infer.bench.models.workload import Workload

TITLE = "diffusers, compiled, cuDNN attention"
LINEARS = ATTENTION = "plain"
LOADED_BYTES = 2
COMPILES = True


def missing(device: torch.device) -> str | None:
    """See `Contender.missing`."""
    return no_cuda(device)


def build(workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None) -> nn.Module:
    """See `Contender.build`."""
    return compiled(diffusers_model(workload, device, CUDNN))


def runs_with(model: nn.Module, device: torch.device) -> tuple[str, ...]:
    """See `Contender.runs_with`."""
    return ("torch.compile of every block", "cuDNN attention")
