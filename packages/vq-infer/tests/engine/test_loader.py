"""Transformers as plan and settings say."""

from collections.abc import Callable

import pytest
import torch

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_infer.engine.loader import Engine
from vq_infer.memory.plan import MemoryPlan
from vq_infer.options import CacheChoice, EngineSettings

Opened = Callable[..., ConvertedCheckpoint]
CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def forward(checkpoint: ConvertedCheckpoint, device: torch.device, offloaded: int) -> torch.Tensor:
    engine = Engine(checkpoint, device, MemoryPlan(offloaded=offloaded), EngineSettings(), vace=True)
    model = engine.load("transformer")
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = model.config

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator).to(device, dtype)

    with torch.no_grad():
        for _ in range(2):
            output: torch.Tensor = model(
                hidden_states=random(1, shape.in_channels, 2, 8, 8),
                timestep=torch.tensor([700], device=device),
                encoder_hidden_states=random(1, 512, shape.text_dim),
                control_hidden_states=random(1, shape.vace_in_channels, 2, 8, 8),
                return_dict=False,
            )[0]
    assert engine.kernels
    assert engine.passes is None
    return output


@pytest.mark.parametrize("device", DEVICES)
def test_offloaded_blocks_give_the_same_bits(opened: Opened, device: torch.device) -> None:
    # VACE: blocks of two stacks, which are read in another order than they run in.
    checkpoint = opened("vace", smooth=True)
    resident = forward(checkpoint, device, 0)
    for offloaded in (4, 100):
        assert torch.equal(forward(checkpoint, device, offloaded), resident)


def test_what_cannot_be_is_refused_before_anything_is_loaded(opened: Opened) -> None:
    checkpoint = opened("t2v")
    with pytest.raises(VqError, match="would drop what VACE adds between blocks"):
        Engine(checkpoint, CPU, MemoryPlan(), EngineSettings(cache=CacheChoice("first-block", 0.1)), vace=True)
    with pytest.raises(VqError, match="--attention sage: SageAttention needs a GPU"):
        Engine(checkpoint, CPU, MemoryPlan(), EngineSettings(attention="sage"), vace=False)
