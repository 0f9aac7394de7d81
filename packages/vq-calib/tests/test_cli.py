import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_calib.cli import main
from vq_core.artifacts.stats import open_stats
from vq_core.testing.tiny_models import Variant

TinyModel = Callable[[Variant], Path]
SMALL = ["--steps", "2", "--height", "64", "--width", "64", "--num-frames", "5", "--device", "cpu"]


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vq-calib", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_collect_reports_what_it_did(
    tiny_model: TinyModel,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, stats = str(tiny_model("t2v")), str(tmp_path / "stats")
    assert _exit_code(monkeypatch, "collect", "--model", model, "--prompts", str(prompts), "-o", stats, *SMALL) == 0
    captured = capsys.readouterr()
    for part in (
        "prompts",
        "tokens per linear, transformer",
        "sampled tokens, transformer",
        "per step",
        "size",
        "time",
    ):
        assert part in captured.out
    assert f"Next: vq-algos smooth --model {model} --stats {stats} -o smoothed" in captured.out
    assert "calibrate: 6/6 steps" in captured.err


def test_a_recipe_says_what_options_do_not(
    tiny_model: TinyModel,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        f"model: {tiny_model('t2v')}\noutput: {tmp_path / 'run'}\nseed: 5\n"
        f"calib:\n  prompts: {prompts}\n  steps: 9\n  height: 64\n  width: 64\n  num_frames: 5\n"
    )
    arguments = ["--recipe", str(recipe), "--steps", "2", "--guidance-scale", "2.5", "--device", "cpu", "--json"]
    assert _exit_code(monkeypatch, "collect", *arguments) == 0
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
    tiny_model: TinyModel, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(tiny_model("i2v"), tmp_path / "model")
    (model / "sampling.json").write_text('{"steps": 3, "height": 64, "width": 64, "num_frames": 5}')
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: ["wan-tiny"])
    monkeypatch.setattr("vq_core.model.source.embedded_model", {"wan-tiny": model}.get)
    arguments = ["--prompts", str(prompts), "-o", str(tmp_path / "stats"), "--steps", "1", "--device", "cpu"]
    assert _exit_code(monkeypatch, "collect", *arguments) == 0
    manifest = open_stats(tmp_path / "stats").artifact.manifest
    assert manifest.model == "wan-tiny"
    assert [manifest.settings[name] for name in ("steps", "height", "width", "num_frames")] == [1, 64, 64, 5]


@pytest.mark.parametrize("missing", ["--model", "--prompts", "--output"])
def test_a_missing_option_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", list)
    given = {"--model": "m", "--prompts": str(tmp_path), "--output": str(tmp_path / "stats")}
    del given[missing]
    assert _exit_code(monkeypatch, "collect", *(part for option in given.items() for part in option)) == 2
    assert missing in capsys.readouterr().err


def test_a_users_mistake_exits_with_two_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "show", str(tmp_path / "nothing")) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_show_prints_json(stats: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(monkeypatch, "show", str(stats), "--top", "2", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["components"]["transformer"]) == 2


def test_plan_tells_what_collect_will_do(
    tiny_model: TinyModel, prompts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--model",
        str(tiny_model("t2v")),
        "--prompts",
        str(prompts),
        "--tokens",
        "12",
        "--part",
        "1/2",
        *SMALL,
    ]
    assert _exit_code(monkeypatch, "plan", *arguments, "--seconds-per-step", "30") == 0
    printed = capsys.readouterr().out
    for part in ("transformer: calls", "fit rows", "device memory", "120 s", "written, at most"):
        assert part in printed
    assert _exit_code(monkeypatch, "plan", *arguments, "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["prompts"], planned["steps"], planned["seconds"]) == (2, 4, None)


def test_parts_are_collected_and_merged(
    tiny_model: TinyModel,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--model", str(tiny_model("t2v")), "--prompts", str(prompts), "--tokens", "12", *SMALL]
    parts = [str(tmp_path / name) for name in ("a", "b")]
    for number, part in enumerate(parts, 1):
        assert _exit_code(monkeypatch, "collect", *arguments, "--part", f"{number}/2", "-o", part) == 0
        assert f"Next: vq-calib merge {part} ... -o stats" in capsys.readouterr().out
    assert _exit_code(monkeypatch, "merge", *parts, "-o", str(tmp_path / "stats"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == 3
    assert _exit_code(monkeypatch, "merge", *parts, "-o", str(tmp_path / "again")) == 0
    assert "Statistics of 2 parts" in capsys.readouterr().out
    assert _exit_code(monkeypatch, "merge", *parts) == 2
    assert "`--output` is missing" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["collect"], ["plan"], ["merge"], ["show"]])
def test_help_needs_no_heavy_import(command: list[str]) -> None:
    script = (
        "import sys\nfrom vq_calib.cli import main\n"
        f"sys.argv = ['vq-calib', *{command!r}, '--help']\n"
        "try:\n    main()\nfinally:\n"
        "    print('heavy:', *{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]
    assert "vq-calib" in done.stdout
