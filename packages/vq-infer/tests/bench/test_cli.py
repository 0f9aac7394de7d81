"""`vq-infer bench` in this process, its run made up."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from vq_infer.bench import command
from vq_infer.bench.report.results import Results


def test_prints_what_was_found(
    vq_infer: Callable[..., int], results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def run(plan: Any, tell: object, keep: object) -> Results:
        seen.append(plan)
        return results

    monkeypatch.setattr(command, "run", run)
    options = ("--model-size", "tiny", "--height", 64, "--width", 64, "--num-frames", 5, "--device", "cpu")
    more = ("--contender", "vq_int8", "--seconds", 2, "--no-details", "--blocks", 1)
    assert vq_infer("bench", *options, *more) == 0
    assert "1.50 times diffusers eager" in capsys.readouterr().out
    (plan,) = seen
    assert (plan.contenders, plan.seconds, plan.details, plan.workload.blocks) == (("vq_int8",), 2.0, False, 1)
    assert vq_infer("bench", *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["machine"]["device"] == "a card"


def test_one_sentence(vq_infer: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert vq_infer("bench", "--model-size", "7b") == 2
    assert capsys.readouterr().err.startswith("`7b` is not a --model-size")
