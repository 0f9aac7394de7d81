import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vq_calib.collect import collect
from vq_calib.estimate import estimate
from vq_calib.planned import Request, plan_run
from vq_core.artifacts.stats import open_stats
from vq_core.sampling import Sampling
from vq_core.tiny import VARIANTS, Variant

TinyModel = Callable[[Variant], Path]


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_says_what_is_then_written(
    variant: Variant, tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    request = Request(str(tiny_model(variant)), prompts, sampling, tokens=50, device="cpu")
    expected = estimate(plan_run(request), None)
    collect(request, tmp_path / "stats")
    stats = open_stats(tmp_path / "stats")
    for name, component in expected.components.items():
        sizes = {"sums": 0, "rows": 0, "outliers": 0, "conditions": 0}
        for path in (tmp_path / "stats" / name).iterdir():
            for tensor_name, tensor in load_file(path).items():
                part = tensor_name.rpartition(".")[2]
                kind = {"fit": "rows", "held_out": "rows", "outliers": "outliers", "outlier_keys": "outliers"}
                condition = "conditions" if part in ("rows", "row_counts") else "sums"
                sizes[kind.get(part, condition)] += tensor.numel() * tensor.element_size()
        assert sizes["sums"] == component.sums_bytes
        assert sizes["rows"] == component.rows_bytes
        assert sizes["outliers"] == component.outliers_bytes
        assert 0 < sizes["conditions"] <= component.conditions_bytes
        count = stats.group(name, stats.groups(name)[0]).count
        assert {(stratum.bucket, stratum.branch) for stratum in component.strata} == {
            (bucket, ("cond", "uncond")[branch]) for bucket, branch in (count > 0).nonzero().tolist()
        }
        for split in ("fit", "held-out"):
            rows = sum(stratum.rows for stratum in component.strata if stratum.split == split)
            assert rows == stats.sampled(name, split)
    assert sum(component.calls for component in expected.components.values()) == 3 * 4 * 2
    assert (expected.steps, expected.prompts, expected.seconds) == (12, 3, None)


def test_the_time_is_only_told_where_a_step_s_is_known(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling
) -> None:
    planned = plan_run(Request(str(tiny_model("t2v")), prompts, sampling, tokens=50, device="cpu"))
    assert "sampling time" not in estimate(planned, None).rows()
    assert estimate(planned, 600.0).seconds == 12 * 600
    assert estimate(planned, 600.0).rows()["sampling time"].startswith("2.0 h (7,200 s)")


def test_rows_and_json(tiny_model: TinyModel, prompts: Path, sampling: Sampling) -> None:
    request = Request(str(tiny_model("t2v")), prompts, sampling, tokens=48, device="cpu")
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
