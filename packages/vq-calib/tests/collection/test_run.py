from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vq_calib.collection.run import PromptsRun
from vq_calib.collection.totals import Totals
from vq_calib.observing.reduction import eager_reduction
from vq_calib.planning.run_plan import CollectRequest, RunPlan, plan_run
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant


@pytest.fixture
def planned(tiny_model: Callable[[Variant], Path], prompts: Path, sampling: Sampling) -> RunPlan:
    return plan_run(
        CollectRequest(str(tiny_model("i2v-2.2")), prompts, replace(sampling, steps=3), tokens=16, device="cpu")
    )


def _run(planned: RunPlan, sampling: Sampling) -> PromptsRun:
    return PromptsRun(
        planned.pipeline,
        planned.topologies,
        replace(sampling, steps=3),
        planned.prompts,
        planned.calls,
        planned.tables,
        eager_reduction(),
    )


def test_prompts_that_are_done_are_not_sampled_again(
    planned: RunPlan, sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    denoise = VideoPipeline.denoise

    def counted(self: VideoPipeline, *args: Any) -> None:
        seeds.append(args[2])
        denoise(self, *args)

    monkeypatch.setattr(VideoPipeline, "denoise", counted)
    totals = Totals(tmp_path, planned.topologies, planned.tables)
    run = _run(replace(planned, prompts=planned.prompts[:2]), sampling)
    assert run.step_seconds is None
    run.sample(planned.samples, totals)
    assert totals.prompts == 2
    assert run.step_seconds is not None
    _run(planned, sampling).sample(planned.samples, Totals(tmp_path, planned.topologies, planned.tables))
    assert seeds == [42, 43, 44]
    monkeypatch.setattr(VideoPipeline, "encode", None)
    _run(planned, sampling).sample(planned.samples, Totals(tmp_path, planned.topologies, planned.tables))
    assert (tmp_path / "totals-3" / "transformer_2" / "non_block.safetensors").exists()
