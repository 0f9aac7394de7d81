import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vq_calib.estimate import estimate
from vq_calib.planning.run_plan import CollectRequest, plan_run
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant

TinyModel = Callable[[Variant], Path]


def test_the_time_is_only_told_where_a_step_s_is_known(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling
) -> None:
    planned = plan_run(CollectRequest(str(tiny_model("t2v")), prompts, sampling, tokens=50, device="cpu"))
    assert "sampling time" not in estimate(planned, None).rows()
    assert estimate(planned, 600.0).seconds == 12 * 600
    assert estimate(planned, 600.0).rows()["sampling time"].startswith("2.0 h (7,200 s)")


def test_rows_and_json(tiny_model: TinyModel, prompts: Path, sampling: Sampling) -> None:
    request = CollectRequest(str(tiny_model("t2v")), prompts, sampling, tokens=48, device="cpu")
    expected = estimate(plan_run(request), None)
    rows = expected.rows()
    strata = len(expected.components["transformer"].strata) // 2
    k = 48 // strata
    assert rows["transformer: calls"] == "24"
    assert rows["transformer: fit rows"].startswith(f"48 (bucket 4: {k}+{k}, ")
    assert json.loads(json.dumps(expected.to_json()))["components"]["transformer"]["calls"] == 24
    nothing = estimate(plan_run(replace(request, tokens=0)), None)
    assert nothing.rows()["transformer: fit rows"] == "none"
    component = nothing.components["transformer"]
    assert (component.rows_bytes, component.conditions_bytes, component.strata) == (0, 0, [])
