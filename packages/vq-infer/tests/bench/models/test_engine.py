"""Our contenders compute what diffusers does, but for quantization."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vq_infer.bench.models.engine import why_not, why_not_eight_bit
from vq_infer.bench.models.workload import Step

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "allowed"), [("vq_int8", 0.05), ("vq_fp8", 0.16)])
def test_predicts_what_diffusers_does(built: Callable[[str], nn.Module], step: Step, name: str, allowed: float) -> None:
    expected, ours = (step.run(built(model), 500.0) for model in ("diffusers_eager", name))
    assert 0 < float((ours - expected).norm() / expected.norm()) < allowed


def test_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not(CPU, "fp8") is None
    assert "8-bit attention on the CPU" in str(why_not_eight_bit(CPU))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert "FP8 needs 8.9" in str(why_not(torch.device("cuda"), "fp8"))
