"""Tokens of videos, and a step that is what diffusers' pipeline computes."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_infer.bench.models.workload import GUIDANCE_SCALE, Step, Workload, timesteps
from vq_infer.memory.model_sizes import MODEL_SIZES


@pytest.mark.parametrize(
    ("size", "height", "width", "frames", "tokens"),
    # Published: 32,760 and 75,600 tokens at 480p and 720p; the 5B model halves both sides once more.
    [
        ("14b", 480, 832, 81, 32760),
        ("14b", 720, 1280, 81, 75600),
        ("1.3b", 480, 832, 81, 32760),
        ("5b", 704, 1280, 121, 27280),
    ],
)
def test_tokens(size: str, height: int, width: int, frames: int, tokens: int) -> None:
    workload = Workload(size, MODEL_SIZES[size], int(MODEL_SIZES[size]["num_layers"]), height, width, frames)
    workload.check()
    assert workload.tokens == tokens


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 100}, "--height 100 is not a multiple of 16: use 96"),
        ({"width": 8}, "--width 8 is not a multiple of 16"),
        ({"num_frames": 80}, "--num-frames 80 is not 4k . 1: use 81"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, int], sentence: str) -> None:
    said = {"height": 64, "width": 64, "num_frames": 5} | change
    with pytest.raises(VqError, match=sentence):
        Workload("tiny", MODEL_SIZES["tiny"], 2, **said).check()


class Recorder(nn.Module):
    """Answers with its text's mean, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[str] = []
        self.timesteps: list[torch.Size] = []

    def cache_context(self, name: str) -> AbstractContextManager[None]:
        self.contexts.append(name)
        return nullcontext()

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, timestep: Tensor, **_: object
    ) -> tuple[Tensor]:
        self.timesteps.append(timestep.shape)
        return (hidden_states * encoder_hidden_states.mean(),)


def test_step_is_both_passes_combined(workload: Workload, step: Step) -> None:
    model = Recorder()
    y = step.run(model, 500.0)
    cond, uncond = (step.forward(model, branch, 500.0) for branch in ("cond", "uncond"))
    assert model.contexts == ["cond", "uncond"] * 2
    assert torch.equal(y, uncond + GUIDANCE_SCALE * (cond - uncond))
    assert not torch.equal(cond, uncond)


def test_timestep_of_every_token() -> None:
    workload, model = Workload("5b", MODEL_SIZES["5b"], 30, 32, 32, 5), Recorder()
    Step(workload, torch.device("cpu"), torch.float32).forward(model, "cond", 1.0)
    assert model.timesteps == [(1, workload.tokens)]


def test_timesteps_change() -> None:
    stream = timesteps()
    assert next(stream) != next(stream)
