"""The contender `vq_int8`, by the contract of all."""

from collections.abc import Callable

import torch
from torch import nn

from vq_infer.bench.models.contenders import vq_int8 as contender
from vq_infer.bench.models.workload import Step, Workload

CPU = torch.device("cpu")


def test_runs_a_step(workload: Workload, built: Callable[[str], nn.Module], step: Step) -> None:
    assert contender.missing(CPU) is None
    model = built("vq_int8")
    assert not model.training
    prediction = step.run(model, 500.0)
    assert prediction.shape == (1, 16, *workload.latent_shape)
    assert prediction.isfinite().all()
    assert all(contender.runs_with(model, CPU))
