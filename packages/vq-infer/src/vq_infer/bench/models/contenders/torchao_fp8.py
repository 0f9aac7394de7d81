"""torchao's dynamic FP8, one scale per row of both operands, in diffusers compiled with cuDNN's attention."""

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.bench.models.baselines import CUDNN, compiled, diffusers_model, quantize_with_torchao, without_torchao
from vq_infer.bench.models.workload import Workload

TITLE = "torchao FP8, compiled, cuDNN attention"
LINEARS = "fp8"
ATTENTION = "plain"
LOADED_BYTES = 2
COMPILES = True
CAPABILITY = (8, 9)


def missing(device: torch.device) -> str | None:
    """See `Contender.missing`."""
    return without_torchao(device, CAPABILITY)


def build(workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None) -> nn.Module:
    """See `Contender.build`."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

    model = diffusers_model(workload, device, CUDNN)
    return compiled(quantize_with_torchao(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())))


def runs_with(model: nn.Module, device: torch.device) -> tuple[str, ...]:
    """See `Contender.runs_with`."""
    return ("torchao float8, rowwise, dynamic", "torch.compile of every block", "cuDNN attention")
