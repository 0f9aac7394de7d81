"""Diffusers as it comes."""

import torch
from torch import nn

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.quantize import Quantized
from vq_infer.bench.models.baselines import diffusers_model
from vq_infer.bench.models.workload import Workload

TITLE = "diffusers, eager"
LINEARS = ATTENTION = "plain"
LOADED_BYTES = 2
COMPILES = False


def missing(device: torch.device) -> str | None:
    """See `Contender.missing`."""
    return None


def build(workload: Workload, device: torch.device, checkpoint: TransformerReader[Quantized] | None) -> nn.Module:
    """See `Contender.build`."""
    return diffusers_model(workload, device)


def runs_with(model: nn.Module, device: torch.device) -> tuple[str, ...]:
    """See `Contender.runs_with`."""
    return ("torch.nn.functional.linear", "torch.nn.functional.scaled_dot_product_attention")
