"""The LightX2V engine: a run config for this run, and LightX2V in a process of its own."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vq_core.artifacts.checkpoint import (
    CHECKPOINT_PLACEHOLDER,
    IMAGE_TOKENS,
    RUN_CONFIG_FOLDER,
    ConvertedCheckpoint,
    image_tokens,
    open_checkpoint,
)
from vq_core.artifacts.lightx2v_kernels import probe
from vq_core.artifacts.made_from import require_made_from
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.remote.draft_folder import draft_folder
from vq_core.remote.location import parse_location
from vq_core.remote.transfer import local_copy, local_output
from vq_core.runtime.meter import Meter
from vq_core.sampling.guidance import scales_of
from vq_core.sampling.prompts import is_video
from vq_infer.request import Outcome, VideoRequest, check_format

_log = logging.getLogger(__name__)

FORMATS = (".mp4",)
CODEC_NOISE = 2  # by which H.264 lets equal pixels differ
DEFAULT_BACKEND = "vllm"  # as in LightX2V's own configs

# Scales and gains of a checkpoint are exact in bfloat16.
ENVIRONMENT = {"DTYPE": "BF16", "TOKENIZERS_PARALLELISM": "false"}
VAE_STRIDE = [4, 8, 8]  # frames, height, width, where a run config names none
PATCH = 2

FILE_OPTIONS = {
    "image": "--image_path",
    "last_image": "--last_frame_path",
    "reference_images": "--src_ref_images",
    "video": "--src_video",
    "mask": "--src_mask",
}
T5_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER_FOLDER = "google/umt5-xxl"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
VAE_FILE, SMALL_MODEL_VAE_FILE = "Wan2.1_VAE.pth", "Wan2.2_VAE.pth"
SMALL_MODEL = "wan2.2"  # TI2V-5B
LARGEST_SEED = 2**32 - 1  # it hands the seed to NumPy, too
VACE_AREAS = (480 * 832, 720 * 1280)


def generate(request: VideoRequest, python: str | None, backend: str | None) -> Outcome:
    """Have LightX2V make the video of `request`.

    Args:
        request: `model` is a native Wan-AI folder.
        python: the interpreter that has LightX2V; None is this one.
        backend: the kernels that LightX2V uses; the checkpoint must have a run config for them. None is `vllm`.

    Raises:
        VqError: the output exists, the checkpoint is damaged or has no such run config, the model lacks a file that
            LightX2V reads, LightX2V is not installed, or it failed or made a video of one colour.
    """
    meter = Meter()
    check_format(request.output, FORMATS)
    if request.device is not None:
        raise VqError("LightX2V chooses its GPU itself: leave --device out, or set CUDA_VISIBLE_DEVICES.")
    if request.sampling.seed > LARGEST_SEED:
        raise VqError(f"seed is {request.sampling.seed}, and LightX2V takes 0 to {LARGEST_SEED}: give one of these.")
    with local_output(request.output) as output:
        request.sample.opened()  # refuses what cannot be decoded
        model = local_copy(parse_location(request.model))
        checkpoint = open_checkpoint(request.checkpoint)
        name, template = read_run_config(checkpoint, backend)
        config = run_config(template, request, checkpoint.artifact.path)
        _require_task(template, request)
        _require_image_tokens(checkpoint)
        _require_size(config, request)
        _require_native_model(model, config)
        require_made_from(checkpoint, request.model, model)
        interpreter = python or sys.executable
        _require_lightx2v(interpreter)
        _require_kernels(interpreter, checkpoint.artifact.path / RUN_CONFIG_FOLDER / f"{name}.json")
        _start(interpreter, config, request, model, output)
    usage = meter.usage()
    return Outcome(request.output, (f"LightX2V {name}",), {"lightx2v": usage}, usage)


def read_run_config(checkpoint: ConvertedCheckpoint, backend: str | None) -> tuple[str, dict[str, Any]]:
    """Name (such as `int8-vllm`) and content of the checkpoint's run config for `backend`.

    Raises:
        VqError: there is none.
    """
    scheme = checkpoint.scheme
    folder = checkpoint.artifact.path / RUN_CONFIG_FOLDER
    files = [file for file in checkpoint.artifact.manifest.files if Path(file).parent == Path(RUN_CONFIG_FOLDER)]
    names = sorted(Path(file).stem for file in files if Path(file).name.startswith(f"{scheme}-"))
    if not names:
        raise VqError(f"{folder} holds no run config for {scheme}: convert the model again with this version.")
    backend = backend or DEFAULT_BACKEND
    name = f"{scheme}-{backend}"
    if name not in names:
        known = ", ".join(name.removeprefix(f"{scheme}-") for name in names)
        raise VqError(f"{folder} has no run config for the backend `{backend}`: choose --backend from {known}.")
    file = f"{RUN_CONFIG_FOLDER}/{name}.json"
    checkpoint.artifact.verify_file(file)
    content: dict[str, Any] = json.loads((checkpoint.artifact.path / file).read_text(encoding="utf-8"))
    return name, content


def run_config(template: Mapping[str, Any], request: VideoRequest, checkpoint: Path) -> dict[str, Any]:
    """`template` with this run's sampling and the path of the folder `checkpoint` filled in.

    Raises:
        VqError: the model does not take the second guidance scale or the number of steps.
    """
    sampling = request.sampling
    place = str(checkpoint.resolve())
    located = {
        key: value.replace(CHECKPOINT_PLACEHOLDER, place) if isinstance(value, str) else value
        for key, value in template.items()
    }
    experts = isinstance(template["sample_guide_scale"], list)
    scales = scales_of(
        sampling.guidance_scale, sampling.guidance_scale_2, transformers=1 + experts, where=request.checkpoint
    )
    settings = located | {
        "task": _task_of(template, request),
        "infer_steps": sampling.steps,
        "target_height": sampling.height,
        "target_width": sampling.width,
        "target_video_length": sampling.num_frames,
        "sample_guide_scale": list(scales) if experts else scales[0],
        "enable_cfg": sampling.guided,
        "fps": sampling.fps,
        "seed": sampling.seed,
    }
    if "denoising_step_list" in template and len(template["denoising_step_list"]) != sampling.steps:
        raise VqError(
            f"{request.checkpoint} is of a model for {len(template['denoising_step_list'])} steps: use this number."
        )
    return settings


def _task_of(template: Mapping[str, Any], request: VideoRequest) -> str:
    """LightX2V's name of the task; one with a last frame has its own."""
    last_frame = request.task == "i2v" and request.sample.last_image is not None
    return "flf2v" if last_frame else request.task


def _require_task(template: Mapping[str, Any], request: VideoRequest) -> None:
    own, asked = template["task"], _task_of(template, request)
    if template["model_cls"] == SMALL_MODEL:  # it makes videos from text and from images
        able = asked in ("t2v", "i2v")
    elif own == "i2v" and not template["use_image_encoder"]:  # Wan 2.2: frames are only latents to it
        able = asked in ("i2v", "flf2v")
    else:
        able = asked == own
    mask = request.sample.mask
    if mask is not None and not is_video(mask):
        raise VqError(
            f"LightX2V reads masks from videos and {mask} is an image: give a video of it, or use --engine native."
        )
    if not able:
        command = "i2v` with --last-image" if own == "flf2v" else f"{own}`"
        raise VqError(f"{request.checkpoint} is a checkpoint for {own}: use `vq-infer {command}.")


def _require_size(config: Mapping[str, Any], request: VideoRequest) -> None:
    """Refuse a size that LightX2V would round silently."""
    frames, height, width = config.get("vae_stride", VAE_STRIDE)
    sampling = request.sampling
    for name, value, multiple in (("height", sampling.height, height), ("width", sampling.width, width)):
        if value % (multiple * PATCH):
            raise VqError(f"{name} {value} is not a multiple of {multiple * PATCH}: use a multiple.")
    if config["task"] == "vace" and sampling.height * sampling.width not in VACE_AREAS:
        raise VqError(f"LightX2V runs VACE at 832x480 or 1280x720, not {sampling.width}x{sampling.height}: use either.")
    if sampling.num_frames % frames != 1:
        raise VqError(f"num_frames {sampling.num_frames} is not {frames}k + 1: use {frames}k + 1, such as 81.")


def _require_native_model(model: Path, config: Mapping[str, Any]) -> None:
    needed = [T5_FILE, TOKENIZER_FOLDER, SMALL_MODEL_VAE_FILE if config["model_cls"] == SMALL_MODEL else VAE_FILE]
    if config["use_image_encoder"]:
        needed.append(CLIP_FILE)
    for name in needed:
        if not any((folder / name).exists() for folder in (model, model / "original")):
            raise VqError(
                f"{model} lacks {name}, which LightX2V reads: give the native Wan-AI folder "
                "(such as Wan-AI/Wan2.1-I2V-14B-480P, downloaded), not the diffusers one, or use --engine native."
            )


def _require_lightx2v(python: str) -> None:
    try:
        found = subprocess.run([python, "-c", "import lightx2v"], capture_output=True, check=False)
    except OSError as error:
        raise VqError(f"{python} cannot be started ({error.strerror}): give a Python with --lightx2v-python.") from None
    if found.returncode:
        lines = found.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise VqError(
            f"{python} cannot import lightx2v ({lines[-1]}): clone ModelTC/LightX2V from GitHub and "
            "`pip install` the clone, give the Python that has it with --lightx2v-python, or use --engine native."
        )


def _require_kernels(python: str, run_config: Path) -> None:
    """Refuse kernels that cannot be imported, which LightX2V finds out only when it has loaded the model."""
    found = subprocess.run(
        [python, "-", str(run_config)], input=probe(), capture_output=True, text=True, errors="replace", check=False
    )
    said = (found.stderr.strip().splitlines() or [""])[-1]
    if found.returncode:
        raise VqError(f"{python} cannot run this: {said}")
    if said.startswith("warning: "):
        _log.warning("%s", said.removeprefix("warning: "))


def _require_image_tokens(checkpoint: ConvertedCheckpoint) -> None:
    sampling = checkpoint.artifact.manifest.settings.get("sampling")
    config = next(iter(checkpoint.components.values())).config
    tokens = image_tokens(config, sampling if isinstance(sampling, dict) else {})
    if tokens not in (None, IMAGE_TOKENS):
        raise VqError(
            f"{checkpoint.artifact.path} is of a model whose image encoder gives {tokens} tokens, and LightX2V takes "
            f"{IMAGE_TOKENS}, whatever there are, so that the video would be noise: use --engine native."
        )


def _start(python: str, config: Mapping[str, Any], request: VideoRequest, model: Path, output: Path) -> None:
    """Run LightX2V; the video appears at `output` only when it is complete."""
    with draft_folder(output) as folder:
        config_json, draft = folder / "run.json", folder / output.name
        config_json.write_text(json.dumps(config, indent=2), encoding="utf-8")
        command = [python, "-m", "lightx2v.infer", *_arguments(config, request, model, config_json, draft)]
        # Its output goes to stderr, so that stdout has nothing but the result.
        status = subprocess.run(command, stdout=sys.__stderr__, env=os.environ | ENVIRONMENT, check=False).returncode
        if status or not draft.exists():
            raise VqError(f"LightX2V ended with exit code {status} and no video: read its output above.")
        _require_picture(draft)
        draft.replace(output)


def _require_picture(video: Path) -> None:
    """Refuse what NaN becomes in 8 bits; LightX2V does not look at what it computes."""
    frames = read_video(video)
    if np.ptp(frames, axis=(0, 1, 2)).max() <= CODEC_NOISE:
        raise VqError(
            "LightX2V's video has one colour from the first frame to the last, as NaN or overflow in its text encoder, "
            "transformer or VAE gives: use another --backend, or --engine native, which names the part."
        )


def _arguments(
    config: Mapping[str, Any], request: VideoRequest, model: Path, config_json: Path, draft: Path
) -> list[str]:
    arguments = {
        "--model_cls": config["model_cls"],
        "--task": config["task"],
        "--model_path": str(model.resolve()),
        "--config_json": str(config_json.resolve()),
        "--prompt": request.sample.prompt,
        "--negative_prompt": request.sample.negative_prompt,
        "--save_result_path": str(draft.resolve()),
        "--seed": str(request.sampling.seed),
    }
    files: dict[str, list[str]] = {}
    for key, path in request.sample.files():
        files.setdefault(FILE_OPTIONS[key], []).append(str(path.resolve()))
    arguments |= {option: ",".join(paths) for option, paths in files.items()}
    return [part for pair in arguments.items() for part in pair]
