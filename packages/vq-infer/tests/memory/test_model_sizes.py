import pytest
import torch

from vq_core.families import wan
from vq_infer.memory.model_sizes import MODEL_SIZES


@pytest.mark.parametrize(
    ("size", "parameters"), [("14b", 16.4e9), ("14b-t2v", 14.3e9), ("5b", 5.0e9), ("1.3b", 1.42e9)]
)
def test_sizes_of_published_models(size: str, parameters: float) -> None:
    count = sum(torch.Size(shape).numel() for shape in wan.topology(MODEL_SIZES[size]).tensors.values())
    assert count == pytest.approx(parameters, rel=0.01)
