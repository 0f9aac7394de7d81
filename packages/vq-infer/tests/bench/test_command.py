"""From options to a plan, to files, and to what the command prints."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_infer.bench import command
from vq_infer.bench.command import bench, plan_of, workload_of
from vq_infer.bench.options import BenchOptions
from vq_infer.bench.report.results import Results
from vq_infer.bench.run import Plan

TINY = BenchOptions(model_size="tiny", height=64, width=64, num_frames=5, device="cpu")


@pytest.mark.parametrize("option", ["--seconds", "--start-limit"])
@pytest.mark.parametrize("value", ["0", "nan", "inf"])
def test_a_time_that_is_none(
    vq_infer: Callable[..., int], capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert vq_infer("bench", "--model-size", "tiny", option, value) == 2
    assert f"`{option}` is {float(value)}: give a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_size": "7b"}, r"`7b` is not a --model-size \(14b, .*tiny\)"),
        ({"contenders": ("nobody",)}, r"`nobody` is not one of the contenders \(.*vq_fp8"),
        ({"blocks": 3}, "--blocks 3 is not possible: give a number from 1 to 2"),
        ({"blocks": 0}, "--blocks 0 is not possible"),
        ({"extrapolate": True}, "--extrapolate needs --blocks between 2 and 1"),
        ({"device": "tpu"}, "`tpu` is not a supported device"),
        ({"height": 65}, "--height 65 is not a multiple of 16"),
    ],
)
def test_options_that_cannot_be(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        plan_of(replace(TINY, **change))


def test_everyone_takes_part_and_the_reference_first() -> None:
    plan = plan_of(TINY)
    assert plan.contenders[0] == "diffusers_eager"
    assert {"torchao_fp8", "torchao_int8", "vq_fp8", "vq_int8_attention8"} <= set(plan.contenders)
    assert len(set(plan.contenders)) == len(plan.contenders)


def test_first_blocks() -> None:
    workload = workload_of(replace(TINY, blocks=1), None)
    assert (workload.blocks, workload.whole) == (1, 2)


def test_checkpoint_gives_shape_and_scheme(converted: Callable[..., Path]) -> None:
    folder = converted("i2v", "fp8")
    options = replace(TINY, model_size=None, checkpoint=folder)
    plan = plan_of(options)
    assert (plan.scheme, plan.checkpoint, plan.workload.blocks) == ("fp8", (folder, "transformer"), 3)
    with pytest.raises(VqError, match="--model-size is for random weights"):
        plan_of(replace(options, model_size="14b"))
    with pytest.raises(VqError, match=r"has no transformer_2 \(it has transformer\)"):
        plan_of(replace(options, component="transformer_2"))


def test_writes_when_it_is_done(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan) -> Iterator[Results]:
        yield replace(results, rows=())
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]
        yield results

    monkeypatch.setattr(command, "run", run)
    bench(replace(TINY, output=tmp_path / "out", chart=False))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bench.json", "bench.md"}
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["rows"][0]["name"] == "diffusers_eager"
    with pytest.raises(VqError, match="out exists already"):
        bench(replace(TINY, output=tmp_path / "out"))


def test_prints_what_was_found(
    vq_infer: Callable[..., int], results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Plan] = []

    def run(plan: Plan) -> Iterator[Results]:
        seen.append(plan)
        yield results

    monkeypatch.setattr(command, "run", run)
    options = ("--model-size", "tiny", "--height", 64, "--width", 64, "--num-frames", 5, "--device", "cpu")
    more = ("--contender", "vq_int8", "--seconds", 2, "--no-details", "--blocks", 1)
    assert vq_infer("bench", *options, *more) == 0
    assert "1.50 times diffusers eager" in capsys.readouterr().out
    (plan,) = seen
    assert (plan.contenders, plan.seconds, plan.details, plan.workload.blocks) == (("vq_int8",), 2.0, False, 1)
    assert vq_infer("bench", *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["machine"]["device"] == "a card"
