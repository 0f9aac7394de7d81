import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from vq_core.artifacts.stats import open_stats
from vq_core.testing.tiny_models import Variant

TinyModel = Callable[[Variant], Path]
Run = Callable[..., int]
SMALL = ["--steps", "2", "--height", "64", "--width", "64", "--num-frames", "5", "--device", "cpu"]


@pytest.fixture
def run(run_command: Run) -> Run:
    """Run the command in this process; its exit code."""
    return partial(run_command, "vq-calib")


def test_collect_reports_what_it_did(
    run: Run, tiny_model: TinyModel, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, stats = tiny_model("t2v"), tmp_path / "stats"
    assert run("collect", "--model", model, "--prompts", prompts, "-o", stats, *SMALL) == 0
    captured = capsys.readouterr()
    for part in ("tokens per linear, transformer", "sampled tokens, transformer", "per step", "size", "time"):
        assert part in captured.out
    assert f"Next: vq-algos smooth --model {model} --stats {stats} -o smoothed" in captured.out
    assert "calibrate: 6/6 steps" in captured.err


def test_a_recipe_says_what_options_do_not(
    run: Run, tiny_model: TinyModel, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        f"model: {tiny_model('t2v')}\noutput: {tmp_path / 'run'}\nseed: 5\n"
        f"calib:\n  prompts: {prompts}\n  steps: 9\n  height: 64\n  width: 64\n  num_frames: 5\n"
    )
    options = ["--steps", 2, "--guidance-scale", 2.5, "--device", "cpu", "--json"]
    assert run("collect", "--recipe", recipe, *options) == 0
    result = json.loads(capsys.readouterr().out)
    output = tmp_path / "run" / "activation-stats"
    assert result["output"] == str(output)
    assert result["prompts"] == 3
    assert result["usage"]["host_peak_bytes"] > 0
    assert result["size_bytes"] == sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    settings = open_stats(output).artifact.manifest.settings
    assert (settings["steps"], settings["seed"], settings["height"]) == (2, 5, 64)
    assert (settings["guidance_scale"], settings["guidance_scale_2"]) == (2.5, None)


def test_the_built_in_model_is_the_default_and_says_how_it_is_sampled(
    run: Run, tiny_model: TinyModel, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(tiny_model("i2v"), tmp_path / "model")
    (model / "sampling.json").write_text('{"steps": 3, "height": 64, "width": 64, "num_frames": 5}')
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: ["wan-tiny"])
    monkeypatch.setattr("vq_core.model.source.embedded_model", {"wan-tiny": model}.get)
    stats = tmp_path / "stats"
    assert run("collect", "--prompts", prompts, "-o", stats, "--steps", 1, "--device", "cpu") == 0
    manifest = open_stats(stats).artifact.manifest
    assert manifest.model == "wan-tiny"
    assert [manifest.settings[name] for name in ("steps", "height", "width", "num_frames")] == [1, 64, 64, 5]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["collect", "--prompts", "p", "-o", "stats"], "`--model` is missing"),
        (["collect", "--model", "m", "-o", "stats"], "`--prompts` is missing"),
        (["collect", "--model", "m", "--prompts", "p"], "`--output` is missing"),
        (["merge", "a", "b"], "`--output` is missing"),
        (["show", "nothing"], "nothing"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    arguments: list[str],
    sentence: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", list)
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""


def test_show_prints_json(run: Run, stats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", stats, "--top", 2, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["components"]["transformer"]) == 2


def test_plan_tells_what_collect_will_do(
    run: Run, tiny_model: TinyModel, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", tiny_model("t2v"), "--prompts", prompts, "--tokens", 12, "--part", "1/2", *SMALL]
    assert run("plan", *arguments, "--seconds-per-step", 30) == 0
    printed = capsys.readouterr().out
    for part in ("transformer: calls", "fit rows", "device memory", "120 s", "written, at most"):
        assert part in printed
    assert run("plan", *arguments, "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["prompts"], planned["steps"], planned["seconds"]) == (2, 4, None)
    assert planned["components"]["transformer"]["calls"] == 2 * 2 * 2


def test_parts_are_collected_and_merged(
    run: Run, tiny_model: TinyModel, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", tiny_model("t2v"), "--prompts", prompts, "--tokens", 12, *SMALL]
    parts = [tmp_path / name for name in ("a", "b")]
    for number, part in enumerate(parts, 1):
        assert run("collect", *arguments, "--part", f"{number}/2", "-o", part) == 0
        assert f"Next: vq-calib merge {part} ... -o stats" in capsys.readouterr().out
    assert run("merge", *parts, "-o", tmp_path / "stats", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == 3
    assert run("merge", *parts, "-o", tmp_path / "again") == 0
    assert "Statistics of 2 parts" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["collect"], ["plan"], ["merge"], ["show"]])
def test_every_command_has_help(command: list[str], run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command, "--help") == 0
    assert " ".join(["vq-calib", *command]) in capsys.readouterr().out
