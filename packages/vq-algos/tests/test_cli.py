"""The command as users meet it: exit codes, JSON, recipes, and what a kill leaves behind."""

import json
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights

SMOOTH_DEFAULTS = {
    "method": "smoothquant",
    "scheme": None,
    "alpha": 0.75,
    "awq_version": "v2",
    "groups": "all",
    "target": "lightx2v",
    "dtype": "fp32",
}

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeStats = Callable[..., Path]
MakeSmoothed = Callable[..., Path]
Run = Callable[..., int]
StartCode = Callable[[str], Any]


@pytest.fixture
def run(run_command: Run) -> Run:
    """Run the command in this process; its exit code."""
    return partial(run_command, "vq-algos")


@pytest.fixture
def stats_path(i2v_model: Path, make_stats: MakeStats) -> Path:
    """Statistics of the image-to-video model."""
    return make_stats(i2v_model)


def test_the_road_and_what_to_run_next(
    run: Run, i2v_model: Path, stats_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoothed, qparams = tmp_path / "smoothed", tmp_path / "qparams"
    assert (
        run("smooth", "--model", i2v_model, "--stats", stats_path, "-o", smoothed, "--alpha", 0.5, "--dtype", "bf16")
        == 0
    )
    printed = capsys.readouterr().out
    for part in (f"Smoothed {i2v_model}", "12 of 12 groups smoothed", "peak host memory"):
        assert part in printed
    assert printed.endswith(f"Next: vq-algos quantize --weights {smoothed} --scheme int8 -o qparams\n")
    assert open_weights(smoothed).artifact.manifest.settings == SMOOTH_DEFAULTS | {"alpha": 0.5, "dtype": "bf16"}

    assert run("quantize", "--weights", smoothed, "--scheme", "fp8", "--rounding", "qtorch", "-o", qparams) == 0
    printed = capsys.readouterr().out
    assert "24 linears, weight SNR median" in printed
    assert printed.endswith(f"Next: vq-export lightx2v --weights {smoothed} --qparams {qparams} -o checkpoint\n")

    assert run("show", qparams) == 0
    assert "attn1.to_q" in capsys.readouterr().out


def test_json_is_all_that_stdout_holds(
    run: Run, i2v_model: Path, stats_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoothed, qparams = tmp_path / "smoothed", tmp_path / "qparams"
    assert run("smooth", "--model", i2v_model, "--stats", stats_path, "-o", smoothed, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["output"] == str(smoothed)
    assert result["settings"] == SMOOTH_DEFAULTS
    assert result["usage"]["host_peak_bytes"] > 0
    assert run("quantize", "--weights", smoothed, "--scheme", "int8", "-o", qparams, "--json") == 0
    assert json.loads(capsys.readouterr().out)["settings"]["scheme"] == "int8"
    assert run("show", smoothed, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["decisions"]) == {"transformer"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["smooth", "-o", "out", "--method", "none"], "`--model` is missing: give it, or a --recipe that says it, or"),
        (["smooth", "--model", "MODEL"], "`--output` is missing"),
        (["smooth", "--model", "MODEL", "-o", "out"], "`smoothquant` needs activation statistics"),
        (
            ["smooth", "--model", "MODEL", "-o", "out", "--method", "none", "--device", "tpu"],
            "`tpu` is not a supported device",
        ),
        (["smooth", "--model", "nowhere", "-o", "out", "--method", "none"], "nowhere is neither a folder nor a hub id"),
        (["quantize", "--weights", "MODEL", "-o", "out"], "`--scheme` is missing"),
        (["quantize", "--scheme", "int8", "-o", "out"], "`--weights` is missing"),
        (["show", "MODEL"], "no manifest.json"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    arguments: list[str],
    sentence: str,
    run: Run,
    i2v_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", list)
    monkeypatch.chdir(tmp_path)
    assert run(*(str(i2v_model) if argument == "MODEL" else argument for argument in arguments)) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert not list(tmp_path.glob("out*"))


def test_without_a_model_the_built_in_one_is_smoothed(
    run: Run, i2v_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: ["wan-tiny"])
    monkeypatch.setattr("vq_core.model.source.embedded_model", {"wan-tiny": i2v_model}.get)
    assert run("smooth", "-o", tmp_path / "smoothed", "--method", "none") == 0
    assert open_weights(tmp_path / "smoothed").artifact.manifest.model == "wan-tiny"


def test_what_needs_tokens_solves_on_those_that_are_given(
    run: Run,
    smoothed: Path,
    stats: ActivationStats,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vq_core.artifacts.stats.open_stats", {stats.artifact.path: stats}.get)
    base = ["quantize", "--weights", smoothed, "--scheme", "int8", "--method", "auto"]
    assert run(*base, "-o", tmp_path / "out") == 2
    assert "`auto` needs sampled tokens" in capsys.readouterr().err
    base += ["--stats", stats.artifact.path]
    assert run(*base, "-o", tmp_path / "both") == 0
    assert run(*base, "-o", tmp_path / "corrected", "--no-center") == 0
    assert run(*base, "-o", tmp_path / "plain", "--no-center", "--no-bias-correction") == 0
    for name, corrects, centers in (("both", True, True), ("corrected", True, False), ("plain", False, False)):
        qparams = open_qparams(tmp_path / name)
        assert qparams.artifact.manifest.settings["method"] == "auto"
        assert qparams.artifact.manifest.settings["bias_correction"] is corrects
        assert qparams.artifact.manifest.settings["center"] is centers
        assert bool(qparams.replaced("transformer")) is corrects
    capsys.readouterr()
    assert run("sensitivity", "--weights", smoothed, "--stats", stats.artifact.path, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["costs"]) == 2 * 24
    assert run("show", tmp_path / "plain", "--heat-map", tmp_path / "map.png") == 0
    assert (tmp_path / "map.png").exists()


# --- recipes -------------------------------------------------------------------------------------


def test_a_recipes_statistics_are_read_where_the_method_solves_on_them(
    run: Run, smoothed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    for method, code in (("rtn", 0), ("auto", 2)):
        recipe.write_text(yaml.safe_dump({"scheme": "int8", "output": "root", "quantize": {"method": method}}))
        assert run("quantize", "--recipe", recipe, "--weights", smoothed, "-o", tmp_path / method) == code
    assert str(tmp_path / "root/activation-stats") in capsys.readouterr().err


def test_our_recipe_drives_both_stages(
    run: Run, i2v_model: Path, make_stats: MakeStats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_stats(i2v_model, name="activation-stats")
    recipe = tmp_path / "recipe.yaml"
    content = {"model": "./model", "scheme": "fp8", "output": "."}
    content |= {"smooth": {"alpha": 0.6, "groups": "llmc"}, "quantize": {"rounding": "qtorch"}}
    recipe.write_text(yaml.safe_dump(content))
    assert run("smooth", "--recipe", recipe) == 0
    smoothed = tmp_path / "smoothed-weights"
    following = capsys.readouterr().out.splitlines()[-1]
    assert following == (
        f"Next: vq-algos quantize --weights {smoothed} --recipe {recipe} -o {tmp_path / 'quant-params'}"
    )
    assert run(*following.split()[2:]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"-o {tmp_path / 'lightx2v'}")
    settings = open_weights(smoothed).artifact.manifest.settings
    assert (settings["method"], settings["alpha"], settings["groups"]) == ("smoothquant", 0.6, "llmc")
    settings = open_qparams(tmp_path / "quant-params").artifact.manifest.settings
    expected = {
        "scheme": "fp8",
        "method": "rtn",
        "rounding": "qtorch",
        "rotate": "none",
        "keep": [],
        "keep_size": None,
        "min_snr": None,
    }
    expected |= {"bias_correction": False, "center": False}
    assert settings == expected


def test_an_option_beats_the_recipe(run: Run, i2v_model: Path, stats_path: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({"model": str(i2v_model), "scheme": "fp8", "output": ".", "smooth": {"alpha": 0.6}})
    )
    assert run("smooth", "--recipe", recipe, "--stats", stats_path, "--alpha", 0.25, "-o", tmp_path / "mine") == 0
    assert open_weights(tmp_path / "mine").artifact.manifest.settings["alpha"] == 0.25
    assert run("quantize", "--recipe", recipe, "--weights", tmp_path / "mine", "--scheme", "int8") == 0
    assert open_qparams(tmp_path / "quant-params").scheme == "int8"


# --- kills ---------------------------------------------------------------------------------------


def _contents(artifact: Path) -> dict[str, bytes]:
    return {str(path.relative_to(artifact)): path.read_bytes() for path in artifact.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", ["smooth", "quantize"])
def test_a_stage_that_is_killed_resumes_to_the_same_bits(
    stage: str,
    run: Run,
    start_code: StartCode,
    make_model: MakeModel,
    make_stats: MakeStats,
    make_smoothed: MakeSmoothed,
    t2v_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_model(t2v_config | {"num_layers": 24}, name="long")  # enough blocks that a kill lands between them
    if stage == "smooth":
        arguments = ["smooth", "--model", model, "--stats", make_stats(model)]
    else:
        arguments = ["quantize", "--weights", make_smoothed(model), "--scheme", "fp8"]
    output, whole, partial_folder = tmp_path / "killed", tmp_path / "whole", tmp_path / "killed.partial"
    chance = random.Random(5)
    for least, more in ((0, []), (1, ["--resume"]), (8, ["--resume"])):
        argv = ["vq-algos", *map(str, arguments), "-o", str(output), *more]
        process = start_code(f"import sys; sys.argv = {argv}; from vq_algos.cli import main; main()").process
        files = least + chance.randrange(6)
        while process.is_alive() and len(list(partial_folder.glob("*/block_*"))) < files:
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it could be killed"
        assert not output.exists()
    finished = {path.name: path.stat().st_ino for path in partial_folder.glob("*/block_*.safetensors")}
    assert run(*arguments, "-o", output) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(*arguments, "-o", output, "--resume") == 0
    assert finished.items() <= {path.name: path.stat().st_ino for path in output.glob("*/*")}.items()
    assert run(*arguments, "-o", whole) == 0
    assert _contents(output) == _contents(whole)
    assert not list(tmp_path.glob("*.partial"))


def test_what_was_smoothed_for_a_target_is_quantized_and_exported_for_it(
    run: Run, i2v_model: Path, stats_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoothed = ("--model", i2v_model, "--stats", stats_path, "--target", "comfyui", "-o", tmp_path / "smoothed")
    assert run("smooth", *smoothed) == 0
    printed = capsys.readouterr().out
    assert "10 of 10 groups smoothed" in printed
    assert run("quantize", "--weights", tmp_path / "smoothed", "--scheme", "fp8", "-o", tmp_path / "fp8") == 2
    assert "ComfyUI reads one FP8 scale per tensor" in capsys.readouterr().err
    assert run("quantize", "--weights", tmp_path / "smoothed", "--scheme", "int8", "-o", tmp_path / "int8") == 0
    assert f"vq-export comfyui --weights {tmp_path}/smoothed" in capsys.readouterr().out.replace("\n", "")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("fp8")] == []


def test_linears_that_stay_in_full_precision(
    run: Run, i2v_model: Path, stats_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `--keep`, else by the recipe where the target can."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("ignored:\n  - {blocks: [0], linears: [ffn.net.2]}\n")
    for target, asked, kept in (
        ("native", (), {"blocks.0.ffn.net.2"}),
        ("native", ("--keep", "1:ffn.net.2"), {"blocks.1.ffn.net.2"}),
        ("lightx2v", (), set()),
    ):
        folder = tmp_path / f"{target}-{len(asked)}"
        weights = tmp_path / target
        if not weights.exists():
            smoothed = ("--model", i2v_model, "--stats", stats_path, "--target", target, "-o", weights)
            assert run("smooth", *smoothed) == 0
        capsys.readouterr()
        scheme = ("--scheme", "int8", "--recipe", recipe)
        assert run("quantize", "--weights", weights, *scheme, *asked, "-o", folder) == 0
        assert open_qparams(folder).kept("transformer") == kept
        assert all(f"1 of 24 linears: {linear}" in capsys.readouterr().out for linear in kept)
    refused = ("--scheme", "int8", "-o", tmp_path / "none")
    assert run("quantize", "--weights", tmp_path / "native", *refused, "--keep-size", "much") == 2
    assert "--keep-size is `much`: give a size such as 500MB or 2GiB." in capsys.readouterr().err
    assert run("quantize", "--weights", tmp_path / "native", *refused, "--keep", "x-y:") == 2
    assert "`--keep x-y:` is not a rule" in capsys.readouterr().err
