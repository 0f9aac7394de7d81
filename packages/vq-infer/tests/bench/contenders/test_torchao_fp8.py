"""The contender `torchao_fp8`, by the contract of all."""

import pytest
import torch

from vq_infer.bench.contenders import torchao_fp8 as contender
from vq_infer.bench.workload import Step, Workload

CPU = torch.device("cpu")


def test_is_not_for_the_cpu() -> None:
    assert contender.missing(CPU)


@pytest.mark.gpu
def test_runs_a_step(workload: Workload) -> None:
    device = torch.device("cuda")
    if reason := contender.missing(device):
        pytest.skip(reason)
    model = contender.build(workload, device, None)
    prediction = Step(workload, device, torch.bfloat16).run(model, 500.0)
    assert prediction.shape == (1, 16, *workload.latent_shape)
    assert prediction.isfinite().all()
    assert all(contender.runs_with(model, device))
