"""Ceilings are rates of real work."""

import pytest
import torch

from vq_infer.bench.measuring import ceilings
from vq_infer.bench.measuring.ceilings import Ceilings, measure_ceilings
from vq_infer.bench.measuring.measure import Steady
from vq_infer.bench.models.workload import Workload


def test_of_known_times(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([2.0, 1.0, 0.5])

    def steady(work: object, device: object, seconds: float) -> Steady:
        return Steady((next(times),) * 2)

    monkeypatch.setattr(ceilings, "steady", steady)
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 1000})
    found = measure_ceilings(workload, torch.device("cpu"), 0.1)
    dim, ffn = workload.dim, int(workload.config["ffn_dim"])
    assert found.matmul == {"plain": max(2 * 16 * dim * dim / 2, 2 * 16 * dim * ffn / 1)}
    assert found.copy == 1000 / 0.5


def test_cpu_multiplies_codes_as_fp32() -> None:
    found = Ceilings({"plain": 1.0, "fp8": 2.0}, 1.0)
    assert (found.rate("fp8"), found.rate("int8")) == (2.0, 1.0)


@pytest.mark.gpu
def test_on_cuda(gpu_workload: Workload) -> None:
    found = measure_ceilings(gpu_workload, torch.device("cuda"), 0.05)
    assert found.copy > 1e11
    assert {"plain", "int8"} <= found.matmul.keys()
