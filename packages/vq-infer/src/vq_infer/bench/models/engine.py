"""Our contenders: the native engine on random codes, or on those of a checkpoint."""

import torch
from torch import nn

from vq_core.errors import VqError
from vq_core.model.transformer_reader import CodesReader
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import SCHEMES
from vq_infer.attention import AUTO, load_attention
from vq_infer.attention_choice import select_attention
from vq_infer.bench.models.random_weights import RandomWeights
from vq_infer.bench.models.workload import Workload
from vq_infer.engine.transformer import kernel_for, load_transformer

EIGHT_BIT = "fp8"
"""The name of our own 8-bit attention for `--attention`."""


def why_not(device: torch.device, scheme_name: str) -> str | None:
    """Why `device` cannot run the scheme."""
    try:
        kernel_for(device, SCHEMES[scheme_name].weight)
    except VqError as error:
        return str(error).rstrip(".")
    return None


def why_not_eight_bit(device: torch.device) -> str | None:
    """Why 8-bit attention is not measured on `device`."""
    if device.type == "cpu":
        return "8-bit attention on the CPU is for comparison and not for speed"
    return load_attention(EIGHT_BIT).unavailable(device)


def engine(
    workload: Workload,
    device: torch.device,
    scheme_name: str,
    checkpoint: CodesReader | None,
    attention: str = AUTO,
    max_rotation: int = NONE,
) -> nn.Module:
    """The engine's transformer as `vq-infer i2v` loads it; `attention` is a name that `--attention` takes.

    Random weights have inputs of which at most `max_rotation` channels are rotated together.
    """
    component = checkpoint or RandomWeights(workload.config, SCHEMES[scheme_name], max_rotation)
    return load_transformer(component, device, f"{scheme_name} transformer", select_attention(attention, device))
