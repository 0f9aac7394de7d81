"""Compare models with each other."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FP32_ROUNDING = 2e-5
"""‖Δ‖ / ‖reference‖ of two ways to compute one function in fp32."""


def relative_error(candidate: Tensor, reference: Tensor) -> float:
    """‖Δ‖ / ‖reference‖."""
    return float((candidate - reference).norm() / reference.norm())


@torch.no_grad()
def prediction(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The prediction of a transformer of diffusers."""
    return model(**inputs, return_dict=False)[0]


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder of safetensors files."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
