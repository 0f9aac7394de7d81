"""Every contender runs a step where it can, and says why where it cannot."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vq_infer.bench.models.contenders import CONTENDERS
from vq_infer.bench.models.workload import Step, Workload

CPU = torch.device("cpu")
ON_CPU = ("diffusers_eager", "vq_fp8", "vq_int8", "vq_int8_rotated", "vq_w6a8", "vq_w4a8")


def check(name: str, model: nn.Module, workload: Workload, step: Step) -> None:
    prediction = step.run(model, 500.0)
    assert not model.training
    assert prediction.shape == (1, 16, *workload.latent_shape)
    assert prediction.isfinite().all()
    assert all(CONTENDERS[name].runs_with(model))


@pytest.mark.parametrize("name", ON_CPU)
def test_runs_a_step(workload: Workload, built: Callable[[str], nn.Module], step: Step, name: str) -> None:
    assert CONTENDERS[name].missing(CPU) is None
    check(name, built(name), workload, step)


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in ON_CPU])
def test_is_not_for_the_cpu(name: str) -> None:
    reason = CONTENDERS[name].missing(CPU)
    assert reason
    assert not reason.endswith(".")  # it stands within a sentence


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONTENDERS)
def test_runs_a_step_on_a_gpu(gpu_workload: Workload, name: str) -> None:
    device = torch.device("cuda")
    if reason := CONTENDERS[name].missing(device):
        pytest.skip(reason)
    model = CONTENDERS[name].build(gpu_workload, device, None)
    check(name, model, gpu_workload, Step(gpu_workload, device, torch.bfloat16))


def test_titles_differ() -> None:
    assert len({contender.title for contender in CONTENDERS.values()}) == len(CONTENDERS)
