"""torchao's dynamic INT8, one scale per row of both operands, in diffusers compiled with cuDNN's attention."""

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.bench.models.baselines import CUDNN, compiled, diffusers_model, quantize_with_torchao, without_torchao
from vq_infer.bench.models.workload import Workload

TITLE = "torchao INT8, compiled, cuDNN attention"
LINEARS = "int8"
ATTENTION = "plain"
LOADED_BYTES = 2
COMPILES = True
CAPABILITY = (8, 0)


def missing(device: torch.device) -> str | None:
    """See `Contender.missing`."""
    return without_torchao(device, CAPABILITY)


def build(workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None) -> nn.Module:
    """See `Contender.build`."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    model = diffusers_model(workload, device, CUDNN)
    return compiled(quantize_with_torchao(model, Int8DynamicActivationInt8WeightConfig()))


def runs_with(model: nn.Module, device: torch.device) -> tuple[str, ...]:
    """See `Contender.runs_with`."""
    return ("torchao int8, rowwise, dynamic", "torch.compile of every block", "cuDNN attention")
