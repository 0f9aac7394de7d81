import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_eval.cli import main
from vq_eval.layers import measure as layers
from vq_eval.layers.schema import LayersReport, Ranking
from vq_eval.layers.sensitivity import SensitivityRequest
from vq_eval.record import ArtifactId
from vq_eval.trajectories import measure as trajectories
from vq_eval.trajectories.schema import TrajectoryReport

Artifacts = Callable[[Variant], tuple[Path, Path]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command asks to be measured; nothing is."""
    seen: dict[str, Any] = {}

    def drift(model: str, candidates: Any, prompts: Path, sampling: Sampling, output: Path, **more: Any) -> Any:
        seen.update(model=model, names=[it.name for it in candidates], prompts=prompts, sampling=sampling, **more)
        return TrajectoryReport(model=model, branches=("cond",), steps=(), prompts=(), candidates=())

    def measure(model: str, candidate: Any, prompts: Path, sampling: Sampling, output: Path, **more: Any) -> Any:
        seen.update(model=model, candidate=candidate, prompts=prompts, sampling=sampling, **more)
        return LayersReport(
            model=model,
            scheme="int8",
            weights=candidate.weights_id,
            qparams=ArtifactId(path="q", digest=""),
            steps=4,
            prompts=(),
            places=(),
            ranking=Ranking(linears=(), blocks=(), buckets=()),
            suspects=(),
            sensitivity=None,
        )

    monkeypatch.setattr(trajectories, "measure_trajectories", drift)
    monkeypatch.setattr(layers, "measure_layers", measure)
    return seen


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vq-eval", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_trajectory_takes_several_candidates(
    asked: dict[str, Any],
    tiny_model: Callable[[Variant], Path],
    artifacts: Artifacts,
    other_artifacts: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (weights, qparams), (other_weights, other_qparams) = artifacts("t2v"), other_artifacts
    options = ["--weights", weights, "--weights", other_weights, "--qparams", f"int8={qparams}", "--no-floor"]
    model = tiny_model("t2v")
    more = ["--qparams", other_qparams, "--model", model, "--prompts", "p", "-o", "drift", "--steps", "7", "--json"]
    assert _exit_code(monkeypatch, "trajectory", *options, *more) == 0
    assert asked["names"] == ["int8", "qparams-fp8"]
    assert (asked["sampling"].steps, asked["floor"], asked["prompts"]) == (7, False, Path("p"))
    assert json.loads(capsys.readouterr().out)["output"] == "drift"


def test_layers_takes_one_and_how_many_to_leave_out(
    asked: dict[str, Any],
    tiny_model: Callable[[Variant], Path],
    artifacts: Artifacts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, qparams = artifacts("t2v")
    model = tiny_model("t2v")
    options = ["--weights", weights, "--qparams", qparams, "--model", model, "--prompts", "p", "-o", "out"]
    more = ["--sensitivity", "1,4", "--sensitivity-of", "blocks", "--seed", 5]
    assert _exit_code(monkeypatch, "layers", *options, *more) == 0
    assert asked["sensitivity"] == SensitivityRequest("blocks", (1, 4))
    assert asked["sampling"].seed == 5
    assert "No suspects." in capsys.readouterr().out
    assert _exit_code(monkeypatch, "layers", *options, "--json") == 0
    assert asked["sensitivity"] is None
    result = json.loads(capsys.readouterr().out)
    assert (result["suspects"], result["output"]) == ([], "out")


@pytest.mark.parametrize("command", ["trajectory", "layers"])
def test_what_is_missing_is_named(
    command: str, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, _ = artifacts("t2v")
    given = [command, "--model", "m", "--prompts", "p", "-o", "out", "--weights", weights]
    assert _exit_code(monkeypatch, *given) == 2
    assert "`--qparams` is missing" in capsys.readouterr().err
    assert _exit_code(monkeypatch, command, "--model", "m", "--prompts", "p") == 2
    assert "`--output` is missing" in capsys.readouterr().err
