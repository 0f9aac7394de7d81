"""What a video of the model itself depends on: two runs that agree in all of it make the same bits."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import JsonValue

from vq_core.artifacts.videos import describe
from vq_core.files.folder_content import content_of
from vq_core.files.tensor_file import sha256_of
from vq_core.files.weights_file import SafetensorsFile
from vq_core.sampling.attention import AttentionKernel
from vq_core.sampling.prompts import Sample
from vq_eval.videos.model_run import ModelRun

FORMAT = 1  # raised when this version makes other videos of the same model
LIBRARIES = ("vq-core", "torch", "diffusers", "transformers", "imageio-ffmpeg")
SAMPLED_BYTES = 4096  # of either end of a tensor, as in a transformer's fingerprint


def identity_of_run(run: ModelRun, kernels: Sequence[AttentionKernel]) -> dict[str, JsonValue]:
    """What all videos of a run depend on; `kernels` are the attention kernels, empty where torch chooses."""
    source, pipeline = run.source, run.pipeline
    return {
        "format": FORMAT,
        "transformers": {
            name: {"fingerprint": part.fingerprint, "config": part.config, "lora": [dict(entry) for entry in part.lora]}
            for name, part in source.components.items()
        },
        "parts": dict(parts_of(pipeline.path, list(source.components))),
        "sampling": {name: value for name, value in vars(run.sampling).items() if name != "seed"},
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "device": device_identity(pipeline.device),
        "attention": list(kernels) or "torch",
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def identity_of_video(run: Mapping[str, JsonValue], sample: Sample, seed: int) -> dict[str, JsonValue]:
    """What one video depends on."""
    return {**run, "prompt": describe(sample), "seed": seed}


def device_identity(device: str) -> dict[str, JsonValue]:
    """The properties of a device that the rounding of a sum can depend on."""
    if torch.device(device).type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return {"type": "cpu", "name": f"{platform.machine()} {capability}", "threads": threads}


def parts_of(pipeline: Path, transformers: Sequence[str]) -> Mapping[str, str]:
    """SHA-256 of every file of a pipeline outside its transformers, by path.

    A safetensors file is hashed by its names, dtypes, shapes and the ends of every tensor, because the text encoder
    has eleven gigabytes.
    """
    return {
        name: _sampled(path) if path.suffix == ".safetensors" else sha256_of(path)
        for name, path in content_of(pipeline).items()
        if name == "model_index.json" or ("/" in name and name.split("/")[0] not in transformers)
    }


def _sampled(path: Path) -> str:
    digest = hashlib.sha256()
    file = SafetensorsFile(path)
    for name in sorted(file.infos):
        digest.update(f"{name} {file.infos[name].dtype} {file.infos[name].shape}\n".encode())
        for content in file.ends(name, SAMPLED_BYTES):
            digest.update(content)
    return digest.hexdigest()
