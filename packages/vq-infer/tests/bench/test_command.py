"""From options to a plan and to files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_infer.bench import command
from vq_infer.bench.command import bench, plan_of, workload_of, write_json
from vq_infer.bench.options import BenchOptions
from vq_infer.bench.report.results import Results

TINY = BenchOptions(model_size="tiny", height=64, width=64, num_frames=5, device="cpu")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_size": "7b"}, r"`7b` is not a --model-size \(14b, .*tiny\)"),
        ({"contenders": ("nobody",)}, r"`nobody` is not one of the contenders \(.*vq_fp8"),
        ({"blocks": 3}, "--blocks 3 cannot be: the model has 2"),
        ({"blocks": 0}, "--blocks 0 cannot be"),
        ({"extrapolate": True}, "--extrapolate needs --blocks between 2 and 1"),
        ({"seconds": 0.0}, "--seconds and --start-limit are times"),
        ({"device": "tpu"}, "`tpu` is not a device"),
        ({"height": 65}, "--height 65 is not a multiple of 16"),
    ],
)
def test_options_that_cannot_be(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        plan_of(replace(TINY, **change), None)


def test_everyone_takes_part_and_the_reference_first() -> None:
    plan = plan_of(TINY, None)
    assert plan.contenders[0] == "diffusers_eager"
    assert {"torchao_fp8", "torchao_int8", "vq_fp8", "vq_int8_attention8"} <= set(plan.contenders)
    assert len(set(plan.contenders)) == len(plan.contenders)


def test_first_blocks() -> None:
    workload = workload_of(replace(TINY, blocks=1), None)
    assert (workload.blocks, workload.whole) == (1, 2)


def test_checkpoint_gives_shape_and_scheme(tiny_model: Callable[[str], Path], convert: Callable[..., Path]) -> None:
    folder = convert(tiny_model("i2v"), "fp8")
    options = replace(TINY, model_size=None, checkpoint=folder)
    plan = plan_of(options, open_checkpoint(folder))
    assert (plan.scheme, plan.checkpoint, plan.workload.blocks) == ("fp8", (folder, "transformer"), 3)
    with pytest.raises(VqError, match="--model-size is for random weights"):
        plan_of(replace(options, model_size="14b"), open_checkpoint(folder))
    with pytest.raises(VqError, match=r"has no transformer_2 \(it has transformer\)"):
        plan_of(replace(options, component="transformer_2"), open_checkpoint(folder))


def test_writes_when_it_is_done(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: object, tell: object, keep: Callable[[Results], None]) -> Results:
        keep(results)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]
        return results

    monkeypatch.setattr(command, "run", run)
    bench(replace(TINY, output=tmp_path / "out", chart=False))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bench.json", "bench.md"}
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["rows"][0]["name"] == "diffusers_eager"
    with pytest.raises(VqError, match="out exists already"):
        bench(replace(TINY, output=tmp_path / "out"))


def test_without_an_output(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run", lambda plan, tell, keep: results)
    assert bench(TINY) is results


def test_json(results: Results, tmp_path: Path) -> None:
    write_json(results, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["machine"]["device"] == "a card"
