"""What every contender that is for a GPU alone has to do."""

from collections.abc import Callable

import pytest
import torch

from vq_infer.bench.models.contenders import Contender
from vq_infer.bench.models.workload import Step, Workload


@pytest.fixture
def runs_a_step_on_a_gpu(gpu_workload: Workload) -> Callable[[Contender], None]:
    """Build a contender, run a step and say with what; skips with its own reason where it is not installed."""

    def check(contender: Contender) -> None:
        device = torch.device("cuda")
        if reason := contender.missing(device):
            pytest.skip(reason)
        model = contender.build(gpu_workload, device, None)
        prediction = Step(gpu_workload, device, torch.bfloat16).run(model, 500.0)
        assert prediction.shape == (1, 16, *gpu_workload.latent_shape)
        assert prediction.isfinite().all()
        assert all(contender.runs_with(model, device))

    return check
