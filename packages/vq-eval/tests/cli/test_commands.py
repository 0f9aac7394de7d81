import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
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
from vq_eval.layers.schema import LayersReport, Ranking
from vq_eval.layers.sensitivity import SensitivityRequest
from vq_eval.record import ArtifactId
from vq_eval.report import build
from vq_eval.report.verdict import ReportVerdict
from vq_eval.report.words import say
from vq_eval.trajectories.schema import TrajectoryReport
from vq_eval.videos.fake_quant import Made

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]
Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]
Command = Callable[..., int]
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def vq_eval(run_command: Command) -> Command:
    """Runs the command; its exit code."""
    return partial(run_command, "vq-eval")


@pytest.fixture
def compare(make_folder: MakeFolder, clip: np.ndarray, noisy: np.ndarray, vq_eval: Command, tmp_path: Path) -> Command:
    """Compares the folder `b`, in which `sea` is noisy, with `a`, and writes `report`; its exit code."""
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": noisy, "cat.mkv": clip})
    given = ["--reference", reference, "--candidate", candidate, "-o", tmp_path / "report"]
    return partial(vq_eval, "compare", *given)


def test_compare_prints_a_table(compare: Command, tmp_path: Path, capsys: Printed) -> None:
    assert compare() == 0
    printed = capsys.readouterr().out
    shown = ("PSNR dB ↑", "(sea)", "SSIM ↑", "Flicker levels ↓", "1 of b", "lossless .mkv", "compare.md", "no gate")
    assert [part for part in shown if part not in printed] == []
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["compare.json", "compare.md"]


def test_compare_prints_json(compare: Command, tmp_path: Path, capsys: Printed) -> None:
    assert compare("--json", "--min-psnr", 20, "--min-ssim", 0.1) == 0
    result = json.loads(capsys.readouterr().out)
    (row,) = result["rows"]
    assert (row["name"], row["overall"]["psnr"]["worst_video"]) == ("b", "sea")
    assert [video["identical"] for video in row["videos"]] == [True, False]
    assert (result["verdict"], result["output"]) == ("passed", str(tmp_path / "report"))


def test_a_failed_gate_exits_with_one_and_still_writes_the_report(
    compare: Command, tmp_path: Path, capsys: Printed
) -> None:
    assert compare("--min-psnr", 90, "--min-ssim", 0.1) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("PSNR of `b`, video `sea`, is ")
    assert "below what it should be: --min-psnr 90 (1 of 2 videos fail)" in said
    assert "SSIM of" not in said
    assert (tmp_path / "report" / "compare.json").is_file()


def test_compare_takes_rows_metrics_and_the_file_of_a_gate(compare: Command, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "gate.yaml").write_text("gates: [{metric: psnr, mean: 90, rows: [second]}]")
    more = ["--floor", tmp_path / "a", "--candidate", f"second={tmp_path / 'b'}", "--gate", tmp_path / "gate.yaml"]
    assert compare(*more, "--metrics", "psnr,flicker", "--device", "cpu", "--json") == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert [row["name"] for row in result["rows"]] == ["floor", "b", "second"]
    assert list(result["metrics"]) == ["psnr", "flicker"]
    assert captured.err.splitlines()[-1].startswith("Mean PSNR of `second` is ")


COMPARE = {"--reference": "a", "--candidate": "b", "--output": "o"}
FAKE_QUANT = {"--model": "m", "--prompts": "p", "--output": "o"}
REPORT = {"--comparison": "c", "--output": "o"}


@pytest.mark.parametrize(
    ("command", "given", "missing"),
    [
        *(("compare", COMPARE, option) for option in COMPARE),
        *(("fake-quant", FAKE_QUANT, option) for option in FAKE_QUANT),
        *(("report", REPORT, option) for option in REPORT),
        ("trajectory", FAKE_QUANT, "--output"),
        ("trajectory", FAKE_QUANT, "--qparams"),
        ("layers", FAKE_QUANT, "--output"),
        ("layers", FAKE_QUANT, "--weights"),
        ("layers", {**FAKE_QUANT, "--weights": "w"}, "--qparams"),
    ],
)
def test_a_missing_option_is_named(
    command: str,
    given: dict[str, str],
    missing: str,
    vq_eval: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", list)
    assert vq_eval(command, *(part for it in given.items() if it[0] != missing for part in it)) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"`{missing}` is missing: give ")


def test_a_mistake_exits_with_two_and_one_sentence(
    compare: Command, vq_eval: Command, tmp_path: Path, capsys: Printed
) -> None:
    (tmp_path / "report").mkdir()
    assert compare() == 2
    assert vq_eval("fake-quant", "--model", "m", "--prompts", "p", "-o", "v", "--variants", "full,int4") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'report'} exists already: choose another --output or remove it.",
        "`int4` is not a variant: choose from full, floor, smoothed, fake-quant.",
    ]


@pytest.mark.parametrize("command", [(), ("compare",), ("fake-quant",), ("trajectory",), ("layers",), ("report",)])
def test_help_needs_no_torch(command: tuple[str, ...]) -> None:
    program = (
        "import sys; from vq_eval.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit(len({'torch', 'numpy', 'diffusers', 'matplotlib'} & sys.modules.keys()))"
    )
    arguments = [*command, "--help"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert arguments[0].strip("-") in done.stdout


def test_compare_help_shows_examples(vq_eval: Command, capsys: Printed) -> None:
    assert vq_eval("compare", "--help") == 0
    assert "vq-eval compare --reference bf16 --candidate int8 -o report --min-psnr 30" in capsys.readouterr().out


# --- commands that sample ---------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that a command passes on; nothing is made or measured."""
    seen: dict[str, Any] = {}

    def make(**given: Any) -> Made:
        seen.update(given)
        return Made({"full": given["output"] / "full"}, 1, 0, {})

    def open_nothing(variants: list[str] | None, weights: Path, qparams: Path, ignored: Any) -> None:
        seen.update(variants=variants and tuple(variants), weights=weights, qparams=qparams, ignored=ignored)

    def drift(**given: Any) -> TrajectoryReport:
        seen.update(given)
        return TrajectoryReport(model=given["model"], branches=("cond",), steps=(), prompts=(), candidates=())

    def layers(**given: Any) -> LayersReport:
        seen.update(given)
        artifact = ArtifactId(path="q", digest="")
        ranking = Ranking(linears=(), blocks=(), buckets=())
        return LayersReport(
            model="m", scheme="int8", weights=artifact, qparams=artifact, steps=4, prompts=(), places=(),
            ranking=ranking, suspects=(), sensitivity=None,
        )  # fmt: skip

    def make_report(comparison: object, output: Path, **given: Any) -> build.Report:
        seen.update(given, comparison=str(comparison))
        verdict = ReportVerdict("ship", say("headline_ship", name="INT8"), (), (), (), "psnr")
        return build.Report(output / "index.html", verdict, 10)

    monkeypatch.setattr("vq_eval.videos.fake_quant.make_videos", make)
    monkeypatch.setattr("vq_eval.videos.fake_quant.open_candidates", open_nothing)
    monkeypatch.setattr("vq_eval.trajectories.measure.measure_trajectories", drift)
    monkeypatch.setattr("vq_eval.layers.measure.measure_layers", layers)
    monkeypatch.setattr(build, "make_report", make_report)
    monkeypatch.setattr("vq_core.sampling.model_defaults.resolve_model", lambda model, **_: tmp_path / model)
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: ["wan-tiny"])
    return seen


def test_fake_quant_makes_videos_and_prints_only_json(
    tiny_model: TinyModel,
    artifacts: Artifacts,
    prompts: Path,
    tmp_path: Path,
    vq_eval: Command,
    capfd: pytest.CaptureFixture[str],
) -> None:
    weights, qparams = artifacts("t2v")
    inputs = ["--model", tiny_model("t2v"), "--weights", weights, "--qparams", qparams, "--prompts", prompts]
    small = ["--height", 64, "--width", 64, "--num-frames", 5, "--steps", 1, "--device", "cpu"]
    assert vq_eval("fake-quant", *inputs, *small, "-o", tmp_path / "videos", "--variants", "fake-quant", "--json") == 0
    printed = capfd.readouterr()
    result = json.loads(printed.out)
    assert result["folders"] == {"fake-quant": str(tmp_path / "videos" / "fake-quant")}
    assert result["prompts"] == 2
    assert result["summaries"]["fake-quant"]["seconds"] > 0
    assert result["summaries"]["fake-quant"]["attention"] == ["flash"]
    assert result["usage"]["seconds"] > 0
    assert (tmp_path / "videos" / "fake-quant" / "001.mkv").is_file()
    assert printed.err.splitlines()[-1].startswith("sample: 2/2 steps")


def test_fake_quant_defaults(asked: dict[str, Any], vq_eval: Command) -> None:
    assert vq_eval("fake-quant", "--prompts", "p", "-o", "v") == 0
    assert asked["model"] == "wan-tiny"
    assert asked["sampling"] == Sampling(
        steps=40, height=480, width=832, num_frames=81, guidance_scale=5.0, guidance_scale_2=None, fps=16, seed=42
    )
    assert (asked["variants"], asked["weights"], asked["qparams"], asked["resume"]) == (None, None, None, False)
    assert (asked["ignored"], asked["loras"]) == ((), ())
    assert asked["cache"].folder == user_cache() / "references"
    assert asked["process"] == ALONE


def test_options_beat_the_recipe_for_ignored_linears_and_loras(
    asked: dict[str, Any], tmp_path: Path, vq_eval: Command
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        'ignored: [{blocks: [0, "38-39"]}, {linears: [ffn.net.2]}]\nlora: [{path: l, strength: 0.5, component: t}]\n'
    )
    arguments = ["fake-quant", "--model", "m", "--prompts", "p", "-o", "v", "--recipe", recipe]
    assert vq_eval(*arguments, "--no-cache") == 0
    assert asked["cache"] is None
    assert asked["ignored"] == (IgnoreRule(blocks=(0, "38-39")), IgnoreRule(linears=("ffn.net.2",)))
    assert asked["loras"] == (LoraRequest(tmp_path / "l", 0.5, "t"),)
    more = ["--ignore", "1:attn1.to_q", "--lora", "x:2", "--cache", tmp_path / "kept"]
    assert vq_eval(*arguments, *more) == 0
    assert asked["cache"].folder == tmp_path / "kept"
    assert asked["ignored"] == (IgnoreRule(blocks=(1,), linears=("attn1.to_q",)),)
    assert asked["loras"] == (LoraRequest(Path("x"), 2.0),)


def test_our_recipe_drives_fake_quant_and_options_beat_it(
    asked: dict[str, Any], tmp_path: Path, vq_eval: Command
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: Wan-AI/Wan2.1-T2V-1.3B-Diffusers\nseed: 7\noutput: out\n"
        "eval: {prompts: prompts, steps: 20, height: 320, variants: [full, smoothed], guidance_scale: 4.0, fps: 8}\n"
    )
    assert vq_eval("fake-quant", "--recipe", recipe, "--steps", 3) == 0
    assert asked["sampling"] == Sampling(steps=3, height=320, guidance_scale=4.0, fps=8, seed=7)
    assert asked["model"] == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert asked["variants"] == ("full", "smoothed")
    paths = [asked[name].relative_to(tmp_path).as_posix() for name in ("prompts", "weights", "qparams", "output")]
    assert paths == ["prompts", "out/smoothed-weights", "out/quant-params", "out/videos"]


LLMC = """\
base: {seed: 42}
model: {type: WanI2V, path: models/wan, torch_dtype: auto}
calib: {name: i2v, download: False, path: calib, sample_steps: 40, bs: 1, target_height: 480, target_width: 832,
        num_frames: 81, guidance_scale: 5.0, seed: 42}
eval: {eval_pos: [pretrain, fake_quant], type: video_gen, name: i2v, download: False, path: eval, bs: 1,
       target_height: 320, target_width: 640, num_frames: 33, guidance_scale: 4.5, fps: 16, output_video_path: videos}
quant:
    video_gen:
        method: SmoothQuant
        weight: {bit: 8, symmetric: True, granularity: per_channel}
        act: {bit: 8, symmetric: True, granularity: per_token}
        special: {alpha: 0.7}
save: {save_lightx2v: True, save_path: x2v}
"""


def test_the_eval_section_of_llmc_drives_fake_quant(asked: dict[str, Any], tmp_path: Path, vq_eval: Command) -> None:
    recipe = tmp_path / "llmc.yml"
    recipe.write_text(LLMC)
    assert vq_eval("fake-quant", "--recipe", recipe) == 0
    sampling = asked["sampling"]
    assert (sampling.height, sampling.width, sampling.num_frames) == (320, 640, 33)
    assert (sampling.guidance_scale, sampling.fps, sampling.seed) == (4.5, 16, 42)
    assert asked["variants"] == ("full", "fake-quant")
    assert (asked["model"], asked["prompts"], asked["output"]) == ("models/wan", Path("eval"), Path("videos"))


def test_option_and_recipe_beat_the_model_s_own_settings(
    asked: dict[str, Any], tmp_path: Path, vq_eval: Command
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "sampling.json").write_text('{"height": 96, "width": 96, "steps": 20, "fps": 8}')
    (tmp_path / "recipe.yaml").write_text("eval: {steps: 30, fps: 12}")
    given = ["--model", "m", "--prompts", "p", "-o", "v", "--recipe", tmp_path / "recipe.yaml"]
    assert vq_eval("fake-quant", *given, "--fps", 9) == 0
    assert asked["sampling"] == Sampling(height=96, width=96, steps=30, fps=9)


def test_trajectory_takes_several_candidates(
    asked: dict[str, Any], artifacts: Artifacts, other_artifacts: tuple[Path, Path], vq_eval: Command, capsys: Printed
) -> None:
    (weights, qparams), (other_weights, other_qparams) = artifacts("t2v"), other_artifacts
    options = ["--weights", weights, "--weights", other_weights, "--qparams", f"int8={qparams}", "--no-floor"]
    more = ["--qparams", other_qparams, "--prompts", "p", "-o", "drift", "--steps", 7, "--json"]
    assert vq_eval("trajectory", *options, *more) == 0
    assert [it.name for it in asked["candidates"]] == ["int8", "qparams-fp8"]
    assert (asked["sampling"].steps, asked["floor"], asked["prompts"]) == (7, False, Path("p"))
    assert json.loads(capsys.readouterr().out)["output"] == "drift"


def test_layers_takes_one_candidate_and_how_many_to_leave_out(
    asked: dict[str, Any], artifacts: Artifacts, vq_eval: Command, capsys: Printed
) -> None:
    weights, qparams = artifacts("t2v")
    options = ["layers", "--weights", weights, "--qparams", qparams, "--prompts", "p", "-o", "out"]
    assert vq_eval(*options, "--sensitivity", "1,4", "--sensitivity-of", "blocks", "--seed", 5) == 0
    assert asked["sensitivity"] == SensitivityRequest("blocks", (1, 4))
    assert asked["sampling"].seed == 5
    assert "No suspects." in capsys.readouterr().out
    assert vq_eval(*options, "--json") == 0
    assert asked["sensitivity"] is None
    result = json.loads(capsys.readouterr().out)
    assert (result["suspects"], result["output"]) == ([], "out")


def test_report_prints_where_the_page_is(
    asked: dict[str, Any], tmp_path: Path, vq_eval: Command, capsys: Printed
) -> None:
    more = ["--layers", "a", "--layers", "b", "--no-lossless-frames", "-o", tmp_path / "page", "--json"]
    assert vq_eval("report", "--comparison", "compared", *more) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["headline"], result["page"]) == ("Ship INT8", str(tmp_path / "page" / "index.html"))
    assert (asked["comparison"], asked["lossless_frames"]) == ("compared", False)
    assert [str(it) for it in asked["layers"]] == ["a", "b"]
