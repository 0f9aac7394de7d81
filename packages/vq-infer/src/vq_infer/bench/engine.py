"""The contenders that are ours: the native engine on random codes, or on those of a checkpoint."""

import torch
from torch import nn

from vq_core.errors import VqError
from vq_core.scheme import SCHEMES
from vq_infer.bench.random_weights import RandomWeights
from vq_infer.bench.workload import Workload
from vq_infer.component import Component
from vq_infer.transformer import kernel_for, kernel_names, load_transformer


def why_not(device: torch.device, scheme_name: str) -> str | None:
    """Why `device` cannot run the scheme."""
    try:
        kernel_for(device, SCHEMES[scheme_name])
    except VqError as error:
        return str(error).rstrip(".")
    return None


def engine(workload: Workload, device: torch.device, scheme_name: str, checkpoint: Component | None) -> nn.Module:
    """The engine's transformer as `vq-infer i2v` loads it."""
    scheme = SCHEMES[scheme_name]
    component = checkpoint or RandomWeights(workload.config, scheme)
    return load_transformer(component, scheme, device, f"{scheme_name} transformer")


def engine_runs_with(model: nn.Module) -> tuple[str, ...]:
    """Names of its kernels."""
    return kernel_names(model)
