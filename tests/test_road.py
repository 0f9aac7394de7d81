"""The whole road, command by command, as a user travels it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from strip import psnr
from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.testing.tiny_models import FFN_DIM, INNER_DIM, Variant

TRAINED_SAMPLING = ["--steps", "3", "--num-frames", "5", "--device", "cpu"]
LLMC_RECIPES = Path(__file__).parents[1] / "recipes" / "llmc"


@pytest.fixture(scope="module")
def trained(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt for the built-in model, and its smoothed weights, in `FOLDER/prompts` and `FOLDER/smoothed`.

    A trained model: what a random one makes of one code that differs is as large as what quantization does to it.
    """
    folder = tmp_path_factory.mktemp("trained")
    run("vq-wan-tiny prompts", "--count", 1, "-o", folder / "prompts")
    run("vq-calib collect", "--prompts", folder / "prompts", "-o", folder / "stats", *TRAINED_SAMPLING)
    run("vq-algos smooth", "--stats", folder / "stats", "-o", folder / "smoothed")
    return folder


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_the_commands_of_the_design_run_in_order(run: Any, trained: Path, tmp_path: Path, scheme: str) -> None:
    prompts, smoothed = trained / "prompts", trained / "smoothed"
    run("vq-algos quantize", "--weights", smoothed, "--scheme", scheme, "-o", tmp_path / "qparams")
    run("vq-export lightx2v", "--weights", smoothed, "--qparams", tmp_path / "qparams", "-o", tmp_path / "ckpt")
    verified = run("vq-export verify", tmp_path / "ckpt", "--model", "wan-tiny")
    assert verified["problems"] == []
    assert min(verified["weight_snr_db"]["transformer"].values()) > 25
    assert open_checkpoint(tmp_path / "ckpt").has_gains

    run(
        "vq-eval fake-quant", "--weights", smoothed, "--qparams", tmp_path / "qparams",
        "--prompts", prompts, "-o", tmp_path / "videos", *TRAINED_SAMPLING,
    )  # fmt: skip
    compared = run(
        "vq-eval compare", "--reference", tmp_path / "videos" / "full",
        "--candidate", f"INT8={tmp_path / 'videos' / 'fake-quant'}", "--prompts", prompts, "-o", tmp_path / "report",
    )  # fmt: skip
    (row,) = compared["rows"]
    assert row["overall"]["psnr"]["mean"] > 25
    assert "17 frames of 96x96, and the video has 5" in compared["unavailable"]["wan_tiny_direction"]
    assert row["provenance"]["digest"] == compared["reference"]["provenance"]["digest"]
    sample = json.loads((prompts / "samples.json").read_text())[0]
    run(
        "vq-infer i2v", "--checkpoint", tmp_path / "ckpt", "--image", prompts / sample["image"], "--prompt",
        sample["prompt"], "-o", tmp_path / "engine.mkv", "--attention", "sdpa", *TRAINED_SAMPLING,
    )  # fmt: skip
    engine = read_video(tmp_path / "engine.mkv")
    full, simulated = (read_video(tmp_path / "videos" / kind / "000.mkv") for kind in ("full", "fake-quant"))
    alike, of_engine, of_simulation = psnr(engine, simulated), psnr(engine, full), psnr(simulated, full)
    assert compared["videos"][0]["prompt"] == sample["prompt"]
    print(f"{scheme}: {alike:.1f} dB; against full precision {of_engine:.1f} and {of_simulation:.1f}")
    assert abs(of_engine - of_simulation) < 3
    # On the CPU both sum the same codes: those of INT8 exactly, those of FP8 in an order that may differ.
    assert alike == float("inf") if scheme == "int8" else alike > 40


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_engine_and_simulation_make_the_same_videos_on_cuda(run: Any, tmp_path: Path, scheme: str) -> None:
    """The trained model, quantized as the recipe of that name says, at its own size and steps; both in bfloat16."""
    recipe, cuda = ["--recipe", scheme], ["--device", "cuda"]
    run("vq-wan-tiny prompts", "--count", 4, "--trained", "-o", tmp_path / "calibration")
    run("vq-wan-tiny prompts", "--count", 3, "-o", tmp_path / "prompts")
    run("vq-calib collect", *recipe, "--prompts", tmp_path / "calibration", "-o", tmp_path / "stats", *cuda)
    run("vq-algos smooth", *recipe, "--stats", tmp_path / "stats", "-o", tmp_path / "smoothed", *cuda)
    run(
        "vq-algos quantize", *recipe, "--weights", tmp_path / "smoothed", "--stats", tmp_path / "stats",
        "-o", tmp_path / "qparams", *cuda,
    )  # fmt: skip
    made_from = ["--weights", tmp_path / "smoothed", "--qparams", tmp_path / "qparams"]
    run("vq-export lightx2v", *made_from, "-o", tmp_path / "ckpt")
    of = ["--prompts", tmp_path / "prompts", *cuda]
    run("vq-eval fake-quant", *made_from, *of, "--variants", "fake-quant", "-o", tmp_path / "simulated")
    run("vq-infer batch", "--checkpoint", tmp_path / "ckpt", *of, "-o", tmp_path / "engine")
    for name in ("000.mkv", "001.mkv", "002.mkv"):
        simulated = read_video(tmp_path / "simulated" / "fake-quant" / name)
        engine = read_video(tmp_path / "engine" / "native" / name)
        alike = psnr(engine, simulated)
        print(f"{scheme} {name}: {alike:.1f} dB")
        assert alike >= 40


def test_conversion_alone_and_inference(run: Any, tiny_model: Any, sampling: list[str], tmp_path: Path) -> None:
    model = tiny_model("t2v")
    run("vq-export lightx2v", "--model", model, "--scheme", "fp8", "-o", tmp_path / "ckpt")
    run(
        "vq-infer t2v", "--model", model, "--checkpoint", tmp_path / "ckpt", "--prompt", "a boat",
        "-o", tmp_path / "boat.mp4", *sampling,
    )  # fmt: skip
    assert read_video(tmp_path / "boat.mp4").shape == (5, 32, 32, 3)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA over the first feed-forward linear of the tiny models, in ComfyUI's spelling."""
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    stem = "diffusion_model.blocks.0.ffn.0"
    pair = {"lora_A": torch.randn(4, INNER_DIM), "lora_B": torch.randn(FFN_DIM, 4)}
    save_file({f"{stem}.{part}.weight": 0.1 * tensor for part, tensor in pair.items()}, path)
    return path


def tiny_variant(llmc_recipe: Path) -> Variant:
    """The tiny model that is laid out as the recipe's; the one with two experts starts from an image."""
    return "i2v-2.2" if "wan2_2" in llmc_recipe.stem else "t2v" if "t2v" in llmc_recipe.stem else "i2v"


@pytest.mark.parametrize("recipe", sorted(LLMC_RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_llmc_recipes_drive_every_stage(
    run: Any, tiny_model: Any, lora: Path, one_prompt: Path, tmp_path: Path, recipe: Path
) -> None:
    document = yaml.safe_load(recipe.read_text())
    document["model"]["path"] = str(tiny_model(tiny_variant(recipe)))
    if "lora_path" in document["model"]:
        document["model"]["lora_path"] = str(lora)
    document["save"]["save_path"] = str(tmp_path / "out")
    sizes = {"path": str(one_prompt), "target_height": 32, "target_width": 32, "num_frames": 5}
    for section in ("calib", "eval"):
        if section in document:
            document[section] |= sizes
    document["eval"]["output_video_path"] = str(tmp_path / "out" / "videos")
    document["eval"]["eval_pos"] = ["pretrain", "fake_quant"]
    edited = tmp_path / "recipe.yaml"
    edited.write_text(yaml.safe_dump(document))

    smooths = document["quant"]["video_gen"]["method"] != "RTN"
    # LLMC never says how many steps a video has; fifty, its implied number, would take minutes here.
    steps = ["--steps", "2", "--device", "cpu"]
    if smooths:
        run("vq-calib collect", "--recipe", edited, *steps)
    run("vq-algos smooth", "--recipe", edited)
    run("vq-algos quantize", "--recipe", edited)
    run("vq-export lightx2v", "--recipe", edited)
    run("vq-eval fake-quant", "--recipe", edited, *steps)
    sample = json.loads((one_prompt / "samples.json").read_text())[0]
    task, image = ("t2v", []) if tiny_variant(recipe) == "t2v" else ("i2v", ["--image", one_prompt / sample["image"]])
    run(
        f"vq-infer {task}", "--recipe", edited, *image, "--prompt", sample["prompt"],
        "-o", tmp_path / "video.mp4", *steps,
    )  # fmt: skip

    checkpoint = open_checkpoint(tmp_path / "out" / "lightx2v")
    assert checkpoint.scheme == ("fp8" if "fp8" in recipe.stem else "int8")
    assert checkpoint.has_gains == smooths
    for component in checkpoint.artifact.manifest.components.values():
        assert [entry.file for entry in component.lora] == ([lora.name] if "lora" in recipe.stem else [])
    assert (tmp_path / "out" / "videos" / "fake-quant" / "000.mp4").exists()
    assert len(read_video(tmp_path / "video.mp4")) == 5


def test_a_merged_model_takes_the_road_and_keeps_apart_from_the_plain_one(
    run: Any, tiny_model: Any, lora: Path, prompts: Path, sampling: list[str], tmp_path: Path
) -> None:
    model = ["--model", tiny_model("i2v-2.2")]
    merged = ["--lora", f"transformer_2={lora}:0.8"]
    stats, weights, qparams, checkpoint = (tmp_path / name for name in ("stats", "smoothed", "qparams", "ckpt"))
    run("vq-calib collect", *model, *merged, "--prompts", prompts, "-o", stats, *sampling)
    with pytest.raises(VqError, match="made from another model .* with the same LoRAs merged"):
        run("vq-algos smooth", *model, "--stats", stats, "-o", weights)
    run("vq-algos smooth", *model, *merged, "--stats", stats, "-o", weights)
    run("vq-algos quantize", "--weights", weights, "--scheme", "int8", "-o", qparams)
    run("vq-export lightx2v", "--weights", weights, "--qparams", qparams, "-o", checkpoint)
    assert run("vq-export verify", checkpoint, *model, *merged)["problems"] == []
    with pytest.raises(VqError, match="made from another model"):
        run("vq-export verify", checkpoint, *model)
    run(
        "vq-eval fake-quant", *model, *merged, "--weights", weights, "--qparams", qparams, "--prompts", prompts,
        "--ignore", "0,2:ffn.net.2", "-o", tmp_path / "videos", *sampling,
    )  # fmt: skip
    for path in (stats, weights, qparams, checkpoint, tmp_path / "videos"):
        components = json.loads((path / "manifest.json").read_text())["components"]
        assert components["transformer"]["lora"] == []
        (entry,) = components["transformer_2"]["lora"]
        assert (entry["file"], entry["strength"]) == (lora.name, 0.8)


def test_a_recipe_by_name_takes_the_road(
    run: Any, tiny_model: Any, prompts: Path, sampling: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--model", tiny_model("t2v")]
    run("vq-calib collect", "--recipe", "int8-fast", *model, "--prompts", prompts, "-o", "stats", *sampling)
    run("vq-algos smooth", "--recipe", "int8-fast", *model, "--stats", "stats", "-o", "smoothed")
    run("vq-algos quantize", "--recipe", "int8-fast", "--weights", "smoothed", "--stats", "stats", "-o", "qparams")
    settings = json.loads((tmp_path / "qparams" / "manifest.json").read_text())["settings"]
    assert (settings["scheme"], settings["method"]) == ("int8", "clip")
    settings = json.loads((tmp_path / "smoothed" / "manifest.json").read_text())["settings"]
    assert (settings["scheme"], settings["method"]) == ("int8", "noise")
