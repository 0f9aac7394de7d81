"""The LightX2V engine with a stand-in for LightX2V that records how it was started."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.testing import tiny_models
from vq_infer.lightx2v import CLIP_FILE, T5_FILE, TOKENIZER_FOLDER, generate, run_config
from vq_infer.request import VideoRequest

Converted = Callable[..., Path]

STAND_IN = """
import json, os, sys
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
config = json.loads(Path(given["--config_json"]).read_text())
Path(os.environ["RECORD"]).write_text(json.dumps({"given": given, "config": config, "dtype": os.environ["DTYPE"]}))
print("LightX2V talks")
if given["--prompt"] == "fail":
    sys.exit(3)
made = "BLACK" if given["--prompt"] == "black" else "VIDEO"
Path(given["--save_result_path"]).write_bytes(Path(os.environ[made]).read_bytes())
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "record.json"
    monkeypatch.setenv("RECORD", str(path))
    for name, pixels in (("VIDEO", np.arange(16 * 16 * 3).reshape(16, 16, 3) // 3), ("BLACK", np.zeros((16, 16, 3)))):
        write_video(tmp_path / f"{name}.mp4", np.stack([pixels.astype(np.uint8)] * 2), fps=8)
        monkeypatch.setenv(name, str(tmp_path / f"{name}.mp4"))
    return path


@pytest.fixture
def python_with_lightx2v(tmp_path: Path, record: Path) -> str:
    package = tmp_path / "site" / "lightx2v"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infer.py").write_text(STAND_IN)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def native_model(tmp_path: Path) -> Path:
    folder = tmp_path / "native"
    (folder / TOKENIZER_FOLDER).mkdir(parents=True)
    for file in (T5_FILE, CLIP_FILE, "Wan2.1_VAE.pth"):
        (folder / file).touch()
    return folder


@pytest.fixture
def request_i2v(converted: Converted, native_model: Path, image: Path, tmp_path: Path) -> VideoRequest:
    sampling = Sampling(steps=4, height=480, width=832, num_frames=81, guidance_scale=6.0, fps=24, seed=9)
    sample = Sample("a red kite", "blurred", image)
    return VideoRequest("i2v", str(native_model), converted("i2v"), sample, tmp_path / "out.mp4", sampling, None)


@pytest.fixture
def vace_request(request_i2v: VideoRequest, converted: Converted, image: Path, tmp_path: Path) -> VideoRequest:
    video = tmp_path / "sea.mkv"
    write_video(video, np.zeros((2, 16, 16, 3), np.uint8), fps=8)
    sample = Sample("p", reference_images=(image, image), video=video, mask=video)
    return replace(request_i2v, task="vace", checkpoint=converted("vace"), sample=sample)


def test_starts_lightx2v_on_this_run(request_i2v: VideoRequest, python_with_lightx2v: str, record: Path) -> None:
    outcome = generate(request_i2v, python_with_lightx2v, None)
    assert request_i2v.output.read_bytes() == record.with_name("VIDEO.mp4").read_bytes()
    assert outcome.kernels == ("LightX2V int8-vllm",)
    started = json.loads(record.read_text())
    given, config = started["given"], started["config"]
    assert started["dtype"] == "BF16"
    assert (
        given.items()
        >= {
            "--model_cls": "wan2.1",
            "--task": "i2v",
            "--prompt": "a red kite",
            "--negative_prompt": "blurred",
            "--seed": "9",
            "--model_path": request_i2v.model,
            "--image_path": str(request_i2v.sample.image),
        }.items()
    )
    assert config["dit_quantized_ckpt"] == str(request_i2v.checkpoint)
    assert (config["infer_steps"], config["target_height"], config["target_width"]) == (4, 480, 832)
    assert (config["target_video_length"], config["sample_guide_scale"], config["enable_cfg"]) == (81, 6.0, True)
    assert (config["fps"], config["seed"]) == (24, 9)


def test_leaves_nothing_but_the_video_and_leaves_stdout_alone(
    request_i2v: VideoRequest, python_with_lightx2v: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())
    generate(request_i2v, python_with_lightx2v, "torchao")
    assert set(tmp_path.iterdir()) - before == {request_i2v.output, tmp_path / "record.json"}
    assert "LightX2V talks" not in capfd.readouterr().out


def test_two_experts(request_i2v: VideoRequest, converted: Converted, python_with_lightx2v: str, record: Path) -> None:
    checkpoint = converted("i2v-2.2")
    sampling = replace(request_i2v.sampling, guidance_scale=4.0, guidance_scale_2=3.0)
    generate(replace(request_i2v, checkpoint=checkpoint, sampling=sampling), python_with_lightx2v, None)
    config = json.loads(record.read_text())["config"]
    assert config["sample_guide_scale"] == [4.0, 3.0]
    assert config["high_noise_quantized_ckpt"] == str(checkpoint / "high_noise_model")
    assert config["low_noise_quantized_ckpt"] == str(checkpoint / "low_noise_model")


def test_failure_leaves_no_video(request_i2v: VideoRequest, python_with_lightx2v: str) -> None:
    failing = replace(request_i2v, sample=replace(request_i2v.sample, prompt="fail"))
    with pytest.raises(VqError, match="LightX2V ended with exit code 3 and no video"):
        generate(failing, python_with_lightx2v, None)
    assert not request_i2v.output.exists()


def test_a_video_of_one_colour_is_refused(request_i2v: VideoRequest, python_with_lightx2v: str) -> None:
    black = replace(request_i2v, sample=replace(request_i2v.sample, prompt="black"))
    with pytest.raises(VqError, match="LightX2V's video has one colour .* as NaN or overflow"):
        generate(black, python_with_lightx2v, None)
    assert not request_i2v.output.exists()


def test_a_seed_that_numpy_does_not_take_is_refused(request_i2v: VideoRequest) -> None:
    with pytest.raises(VqError, match="seed is 4294967296, and LightX2V takes 0 to 4294967295"):
        generate(replace(request_i2v, sampling=replace(request_i2v.sampling, seed=2**32)), None, None)


@pytest.mark.parametrize("missing", [T5_FILE, "Wan2.1_VAE.pth", CLIP_FILE])
def test_model_without_what_lightx2v_reads(request_i2v: VideoRequest, native_model: Path, missing: str) -> None:
    (native_model / missing).unlink()
    with pytest.raises(VqError, match=f"lacks {missing}, which LightX2V reads: give the native Wan-AI folder"):
        generate(request_i2v, None, None)


def test_model_files_may_lie_in_original(
    request_i2v: VideoRequest, native_model: Path, python_with_lightx2v: str
) -> None:
    (native_model / "original").mkdir()
    (native_model / T5_FILE).rename(native_model / "original" / T5_FILE)
    assert generate(request_i2v, python_with_lightx2v, None).output.exists()


@pytest.mark.parametrize("variant", ["flf2v", "i2v-2.2"])
def test_a_last_frame_is_a_task_of_its_own(
    request_i2v: VideoRequest,
    converted: Converted,
    image: Path,
    python_with_lightx2v: str,
    record: Path,
    variant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vq_infer.lightx2v.IMAGE_TOKENS", tiny_models.IMAGE_TOKENS)
    sample = Sample("p", "", image, image)
    generate(replace(request_i2v, checkpoint=converted(variant), sample=sample), python_with_lightx2v, None)
    started = json.loads(record.read_text())
    assert started["given"]["--task"] == started["config"]["task"] == "flf2v"
    assert started["given"]["--last_frame_path"] == started["given"]["--image_path"] == str(image)


def test_an_image_encoder_with_other_tokens_is_refused(
    request_i2v: VideoRequest, converted: Converted, image: Path
) -> None:
    sample = Sample("p", "", image, image)
    with pytest.raises(VqError, match="image encoder gives 17 tokens, and LightX2V takes 257.*use --engine native"):
        generate(replace(request_i2v, checkpoint=converted("flf2v"), sample=sample), None, None)


@pytest.mark.parametrize("code", [0, 2])
def test_kernels_are_tried_before_lightx2v_loads_anything(
    request_i2v: VideoRequest,
    python_with_lightx2v: str,
    record: Path,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = "pip install vllm" if code else "warning: it truncates"
    program = f"import json, sys\njson.load(open(sys.argv[1]))\nprint({said!r}, file=sys.stderr)\nsys.exit({code})"
    monkeypatch.setattr("vq_infer.lightx2v.probe", lambda: program)
    if code:
        with pytest.raises(VqError, match="cannot run this: pip install vllm"):
            generate(request_i2v, python_with_lightx2v, None)
        assert not record.exists()
    else:
        generate(request_i2v, python_with_lightx2v, None)
        assert "it truncates" in caplog.text


def test_vace(vace_request: VideoRequest, python_with_lightx2v: str, record: Path, image: Path) -> None:
    generate(vace_request, python_with_lightx2v, None)
    given = json.loads(record.read_text())["given"]
    assert (given["--model_cls"], given["--task"]) == ("wan2.1_vace", "vace")
    assert given["--src_ref_images"] == f"{image},{image}"
    assert given["--src_video"] == given["--src_mask"] == str(vace_request.sample.video)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"device": "cuda:1"}, "set CUDA_VISIBLE_DEVICES"),
        ({"output": Path("out.mkv")}, "is not a video format that this engine writes"),
        ({"guidance_scale_2": 3.0}, "guidance_scale_2 is for models with two transformers"),
        ({"height": 100}, "height 100 is not a multiple of 16"),
        ({"width": 100}, "width 100 is not a multiple of 16"),
        ({"num_frames": 80}, "num_frames 80 is not 4k . 1: use 4k . 1, such as 81"),
        ({"task": "t2v", "sample": Sample("p")}, "is a checkpoint for i2v: use `vq-infer i2v`"),
        ({"backend": "marlin"}, "no run config for the backend `marlin`: choose --backend from torchao, vllm"),
        ({"python": "/no/python"}, "/no/python cannot be started"),
        ({}, r"cannot import lightx2v .*clone ModelTC/LightX2V from GitHub.*--lightx2v-python"),
    ],
)
def test_what_lightx2v_cannot_do(request_i2v: VideoRequest, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        generate(changed(request_i2v, change), change.get("python"), change.get("backend"))


def changed(request: VideoRequest, change: dict[str, Any]) -> VideoRequest:
    """`request` with these fields, its sample's or its sampling's."""
    for name, value in change.items():
        for part in ("sample", "sampling"):
            if name in vars(getattr(request, part)):
                request = replace(request, **{part: replace(getattr(request, part), **{name: value})})
        if name in vars(request):
            request = replace(request, **{name: value})
    return request


def test_other_models_and_checkpoints(
    request_i2v: VideoRequest, converted: Converted, tiny_model: Converted, image: Path
) -> None:
    with pytest.raises(VqError, match="not the diffusers one"):
        generate(replace(request_i2v, model=str(tiny_model("i2v"))), None, None)
    with pytest.raises(VqError, match="is a checkpoint for flf2v: use `vq-infer i2v` with --last-image"):
        generate(replace(request_i2v, checkpoint=converted("flf2v")), None, None)
    with pytest.raises(VqError, match="is a checkpoint for i2v: use `vq-infer i2v`"):
        generate(changed(request_i2v, {"last_image": image}), None, None)


def test_what_lightx2v_s_vace_cannot_do(vace_request: VideoRequest, image: Path) -> None:
    with pytest.raises(VqError, match="LightX2V runs VACE at 832x480 or 1280x720, not 64x64"):
        generate(changed(vace_request, {"height": 64, "width": 64}), None, None)
    with pytest.raises(VqError, match="LightX2V reads masks from videos and .*image.png is an image"):
        generate(changed(vace_request, {"mask": image}), None, None)


def test_distilled_models_have_their_number_of_steps(request_i2v: VideoRequest) -> None:
    template = {"sample_guide_scale": 1.0, "denoising_step_list": [1000, 500], "task": "i2v"}
    config = run_config(template, changed(request_i2v, {"steps": 2, "guidance_scale": 1.0}), Path("checkpoint"))
    assert (config["infer_steps"], config["enable_cfg"]) == (2, False)
    with pytest.raises(VqError, match="is of a model for 2 steps: use this number"):
        run_config(template, request_i2v, Path("checkpoint"))
