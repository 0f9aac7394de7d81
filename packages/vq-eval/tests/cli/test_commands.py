import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.model.lora_request import LoraRequest
from vq_core.recipes.ignored import IgnoreRule
from vq_core.remote.mirror import user_cache
from vq_core.runtime.process import ALONE
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_eval.cli import main
from vq_eval.videos import fake_quant
from vq_eval.videos.fake_quant import Made

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]


@pytest.fixture
def folders(make_folder: MakeFolder, clip: np.ndarray, noisy: np.ndarray) -> list[str]:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": noisy, "cat.mkv": clip})
    return ["--reference", str(reference), "--candidate", str(candidate)]


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vq-eval", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_compare_prints_a_table(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report")) == 0
    printed = capsys.readouterr().out
    for part in (
        "PSNR dB ↑",
        "(sea)",
        "SSIM ↑",
        "Flicker levels ↓",
        "1 of b",
        "lossless .mkv",
        "compare.md",
        "no gate",
    ):
        assert part in printed
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["compare.json", "compare.md"]


def test_compare_prints_json(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report"), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    (row,) = result["rows"]
    assert (row["name"], row["overall"]["psnr"]["worst_video"]) == ("b", "sea")
    assert [video["identical"] for video in row["videos"]] == [True, False]
    assert result["output"] == str(tmp_path / "report")


def test_a_failed_gate_exits_with_one_and_still_writes_the_report(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = ["--min-psnr", "90", "--min-ssim", "0.1"]
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report"), *gates) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("PSNR of `b`, video `sea`, is ")
    assert "below what it should be: --min-psnr 90 (1 of 2 videos fail)" in captured.err
    assert "SSIM of" not in captured.err
    assert (tmp_path / "report" / "compare.json").is_file()


def test_gates_that_are_met_exit_with_zero(folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = ["--min-psnr", "20", "--min-ssim", "0.1"]
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report"), *gates) == 0


def test_rows_metrics_and_the_gate_of_a_file_are_taken(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gate.yaml").write_text("gates: [{metric: psnr, mean: 90, rows: [second]}]")
    more = ["--floor", folders[1], "--candidate", f"second={folders[3]}", "--gate", str(tmp_path / "gate.yaml")]
    arguments = [*folders, *more, "--metrics", "psnr,flicker", "--device", "cpu", "--json"]
    assert _exit_code(monkeypatch, "compare", *arguments, "-o", str(tmp_path / "report")) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert [row["name"] for row in result["rows"]] == ["floor", "b", "second"]
    assert list(result["metrics"]) == ["psnr", "flicker"]
    assert captured.err.splitlines()[-1].startswith("Mean PSNR of `second` is ")


@pytest.mark.parametrize("missing", ["--reference", "--candidate", "--output"])
def test_a_missing_option_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--reference": "a", "--candidate": "b", "--output": str(tmp_path / "report")}
    del given[missing]
    assert _exit_code(monkeypatch, "compare", *(part for option in given.items() for part in option)) == 2
    assert missing in capsys.readouterr().err


def test_a_users_mistake_exits_with_two_and_one_sentence(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").mkdir()
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report")) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'report'} exists already: choose another --output or remove it."
    ]


@pytest.mark.parametrize("command", [(), ("compare",), ("fake-quant",), ("trajectory",), ("layers",)])
def test_help_needs_no_torch(command: tuple[str, ...]) -> None:
    program = (
        "import sys; from vq_eval.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit(len({'torch', 'numpy', 'diffusers', 'matplotlib'} & sys.modules.keys()))"
    )
    arguments = [*command, "--help"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert arguments[0].strip("-") in done.stdout


def test_compare_help_shows_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(monkeypatch, "compare", "--help") == 0
    assert "vq-eval compare --reference bf16 --candidate int8 -o report --min-psnr 30" in capsys.readouterr().out


# --- fake-quant ---------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of `make_videos` and `open_candidates`, which make nothing here."""
    seen: dict[str, Any] = {}

    def make(model: str, candidates: object, prompts: Path, sampling: Sampling, output: Path, **more: object) -> Made:
        seen.update(model=model, prompts=prompts, sampling=sampling, output=output, **more)
        return Made({"full": output / "full"}, 1, 0, {})

    def open_nothing(
        variants: list[str] | None, weights: Path | None, qparams: Path | None, ignored: tuple[IgnoreRule, ...]
    ) -> None:
        seen.update(variants=variants and tuple(variants), weights=weights, qparams=qparams, ignored=ignored)

    monkeypatch.setattr(fake_quant, "make_videos", make)
    monkeypatch.setattr(fake_quant, "open_candidates", open_nothing)
    monkeypatch.setattr("vq_core.sampling.model_defaults.resolve_model", lambda model, **_: tmp_path / model)
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: ["wan-tiny"])
    return seen


def test_fake_quant_makes_videos_and_prints_only_json(
    tiny_model: Callable[[Variant], Path],
    artifacts: Callable[[Variant], tuple[Path, Path]],
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    weights, qparams = artifacts("t2v")
    inputs = ["--model", tiny_model("t2v"), "--weights", weights, "--qparams", qparams, "--prompts", prompts]
    small = ["--height", 64, "--width", 64, "--num-frames", 5, "--steps", 1, "--device", "cpu"]
    arguments = [*inputs, *small, "-o", tmp_path / "videos", "--variants", "fake-quant", "--json"]
    assert _exit_code(monkeypatch, "fake-quant", *map(str, arguments)) == 0
    printed = capfd.readouterr()
    result = json.loads(printed.out)
    assert result["folders"] == {"fake-quant": str(tmp_path / "videos" / "fake-quant")}
    assert result["prompts"] == 2
    assert result["summaries"]["fake-quant"]["seconds"] > 0
    assert result["summaries"]["fake-quant"]["attention"] == ["flash"]
    assert result["usage"]["seconds"] > 0
    assert (tmp_path / "videos" / "fake-quant" / "001.mkv").is_file()
    assert printed.err.splitlines()[-1].startswith("sample: 2/2 steps")


def test_fake_quant_defaults(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", "m", "--prompts", "p", "-o", str(tmp_path / "videos"))
    assert _exit_code(monkeypatch, "fake-quant", *arguments) == 0
    assert asked["sampling"] == Sampling(
        steps=40, height=480, width=832, num_frames=81, guidance_scale=5.0, guidance_scale_2=None, fps=16, seed=42
    )
    assert (asked["variants"], asked["weights"], asked["qparams"], asked["resume"]) == (None, None, None, False)
    assert (asked["ignored"], asked["loras"]) == ((), ())
    assert asked["cache"].folder == user_cache() / "references"
    assert asked["process"] == ALONE


def test_where_references_are_kept(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("fake-quant", "--model", "m", "--prompts", "p", "-o", str(tmp_path / "videos"))
    assert _exit_code(monkeypatch, *arguments, "--cache", str(tmp_path / "kept")) == 0
    assert asked["cache"].folder == tmp_path / "kept"
    assert _exit_code(monkeypatch, *arguments, "--no-cache") == 0
    assert asked["cache"] is None


def test_ignored_linears_and_loras_come_from_options_before_the_recipe(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        'ignored: [{blocks: [0, "38-39"]}, {linears: [ffn.net.2]}]\nlora: [{path: l, strength: 0.5, component: t}]\n'
    )
    arguments = ["--model", "m", "--prompts", "p", "-o", "v", "--recipe", str(recipe)]
    assert _exit_code(monkeypatch, "fake-quant", *arguments) == 0
    assert asked["ignored"] == (IgnoreRule(blocks=(0, "38-39")), IgnoreRule(linears=("ffn.net.2",)))
    assert asked["loras"] == (LoraRequest(tmp_path / "l", 0.5, "t"),)
    assert _exit_code(monkeypatch, "fake-quant", *arguments, "--ignore", "1:attn1.to_q", "--lora", "x:2") == 0
    assert asked["ignored"] == (IgnoreRule(blocks=(1,), linears=("attn1.to_q",)),)
    assert asked["loras"] == (LoraRequest(Path("x"), 2.0),)


def test_our_recipe_drives_fake_quant_and_options_beat_it(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: Wan-AI/Wan2.1-T2V-1.3B-Diffusers\nseed: 7\noutput: out\n"
        "eval: {prompts: prompts, steps: 20, height: 320, variants: [full, smoothed], guidance_scale: 4.0, fps: 8}\n"
    )
    assert _exit_code(monkeypatch, "fake-quant", "--recipe", str(recipe), "--steps", "3") == 0
    assert asked["sampling"] == Sampling(steps=3, height=320, guidance_scale=4.0, fps=8, seed=7)
    assert asked["model"] == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert asked["variants"] == ("full", "smoothed")
    paths = [asked[name].relative_to(tmp_path).as_posix() for name in ("prompts", "weights", "qparams", "output")]
    assert paths == ["prompts", "out/smoothed-weights", "out/quant-params", "out/videos"]


def test_the_eval_section_of_llmc_drives_fake_quant(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "llmc.yml"
    recipe.write_text(LLMC)
    assert _exit_code(monkeypatch, "fake-quant", "--recipe", str(recipe)) == 0
    sampling = asked["sampling"]
    assert (sampling.height, sampling.width, sampling.num_frames) == (320, 640, 33)
    assert (sampling.guidance_scale, sampling.fps, sampling.seed) == (4.5, 16, 42)
    assert asked["variants"] == ("full", "fake-quant")
    assert (asked["model"], asked["prompts"], asked["output"]) == ("models/wan", Path("eval"), Path("videos"))


LLMC = """\
base: {seed: 42}
model: {type: WanI2V, path: models/wan, torch_dtype: auto}
calib:
    name: i2v
    download: False
    path: calib
    sample_steps: 40
    bs: 1
    target_height: 480
    target_width: 832
    num_frames: 81
    guidance_scale: 5.0
    seed: 42
eval:
    eval_pos: [pretrain, fake_quant]
    type: video_gen
    name: i2v
    download: False
    path: eval
    bs: 1
    target_height: 320
    target_width: 640
    num_frames: 33
    guidance_scale: 4.5
    fps: 16
    output_video_path: videos
quant:
    video_gen:
        method: SmoothQuant
        weight: {bit: 8, symmetric: True, granularity: per_channel}
        act: {bit: 8, symmetric: True, granularity: per_token}
        special: {alpha: 0.7}
save: {save_lightx2v: True, save_path: x2v}
"""


def test_the_model_s_own_settings_come_after_option_and_recipe(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "sampling.json").write_text('{"height": 96, "width": 96, "steps": 20, "fps": 8}')
    (tmp_path / "recipe.yaml").write_text("eval: {steps: 30, fps: 12}")
    arguments = ("--model", "m", "--prompts", "p", "-o", "v", "--recipe", str(tmp_path / "recipe.yaml"), "--fps", "9")
    assert _exit_code(monkeypatch, "fake-quant", *arguments) == 0
    assert asked["sampling"] == Sampling(height=96, width=96, steps=30, fps=9)


def test_without_a_model_the_built_in_one_is_taken(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert _exit_code(monkeypatch, "fake-quant", "--prompts", "p", "-o", "v") == 0
    assert asked["model"] == "wan-tiny"


@pytest.mark.parametrize("missing", ["--model", "--prompts", "--output"])
def test_a_missing_option_of_fake_quant_is_named(
    asked: dict[str, Any],
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", list)
    given = {"--model": "m", "--prompts": "p", "--output": str(tmp_path / "videos")}
    del given[missing]
    assert _exit_code(monkeypatch, "fake-quant", *(part for option in given.items() for part in option)) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"`{missing}` is missing: give it, or a --recipe that says it")


def test_a_mistake_in_fake_quant_exits_with_two_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", "m", "--prompts", "p", "-o", "v", "--variants", "full,int4")
    assert _exit_code(monkeypatch, "fake-quant", *arguments) == 2
    assert capsys.readouterr().err.splitlines() == [
        "`int4` is not a variant: choose from full, floor, smoothed, fake-quant."
    ]
