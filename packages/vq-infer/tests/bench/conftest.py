"""One small workload, and the models that contenders make of it, made once."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vq_infer.bench.measuring.breakdown import Line, Share
from vq_infer.bench.measuring.ceilings import Ceilings
from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.measuring.measure import Steady
from vq_infer.bench.models.contenders import CONTENDERS
from vq_infer.bench.models.workload import Step, Workload
from vq_infer.bench.report.results import Results, Row
from vq_infer.bench.run import Plan
from vq_infer.bench.worker import First, Machine, Memory, cut
from vq_infer.memory.model_sizes import MODEL_SIZES

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def workload() -> Workload:
    """The smallest model, one block, 16 tokens."""
    return cut(Workload("tiny", MODEL_SIZES["tiny"], 2, 64, 64, 1), 1)


@pytest.fixture(scope="session")
def gpu_workload() -> Workload:
    """The same with 48 tokens: torch's INT8 product on CUDA takes no fewer than 17."""
    return cut(Workload("tiny", MODEL_SIZES["tiny"], 2, 64, 64, 9), 1)


@pytest.fixture(scope="session")
def built(workload: Workload) -> Callable[[str], nn.Module]:
    """A contender's model on the CPU, made once; tests leave it as it is."""

    @cache
    def build(name: str) -> nn.Module:
        return CONTENDERS[name].build(workload, CPU, None)

    return build


@pytest.fixture(scope="session")
def step(workload: Workload) -> Step:
    """One denoising step of it."""
    return Step(workload, CPU, torch.float32)


@pytest.fixture
def plan(workload: Workload) -> Callable[..., Plan]:
    """What to run, by default almost nothing."""

    def make(*contenders: str, **changes: object) -> Plan:
        said = {
            "contenders": contenders, "workload": workload, "device": "cpu", "checkpoint": None, "scheme": None,
            "seconds": 0.01, "start_limit": 60.0, "extrapolate": False, "details": False,
        }  # fmt: skip
        return Plan(**said | changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def results(workload: Workload) -> Results:
    """A finished run, made up."""

    def row(name: str, seconds: float, **more: Any) -> Row:
        first = First(9.0, 1.0, np.ones(2, np.float32), ("a kernel",))
        steady = Steady((seconds,) * 3, watts=(600.0, 700.0, 690.0))
        return Row(name, name, "plain", "plain", first=first, steady=steady, step_seconds=seconds, **more)

    line = Line(Kind.NORM, Share(2.0, ("norm_kernel",), 4), 0.0, 1e9, 1.0)
    rows = (
        row("diffusers_eager", 6.0, memory=Memory(2**30, 2**31), error=0.0, lines=(line,)),
        row("torchao_fp8", 4.5),
        row("vq_fp8", 4.0, restart_seconds=5.0),
        Row("torchao_int8", "torchao_int8", "int8", "plain", why_not="not finished after 60 s"),
    )
    machine = Machine("a card", 80 * 2**30, {"torch": "2"})
    return Results(
        "2026-11-26", "vq-infer bench", machine, workload, None, False, Ceilings({"plain": 7e14}, 3e12), rows
    )
