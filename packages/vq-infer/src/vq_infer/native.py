"""The native engine: the model's own pipeline with its transformers on codes."""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vq_core.artifacts.checkpoint import Checkpoint, open_checkpoint
from vq_core.device import resolve_device
from vq_core.errors import VqError
from vq_core.meter import Meter
from vq_core.pipeline import VideoPipeline
from vq_core.pipeline_layout import VACE, PipelineLayout, read_layout
from vq_core.progress import progress
from vq_core.prompts import Inputs
from vq_core.remote import local_output
from vq_core.video import FORMATS, write_video
from vq_infer.attention import AUTO, select_attention
from vq_infer.options import Task
from vq_infer.request import Outcome, Request, check_output
from vq_infer.transformer import kernel_for, kernel_names, load_transformer

# What a transformer must share with the model whose encoders and VAE surround it.
ARCHITECTURE = (
    "in_channels", "out_channels", "text_dim", "image_dim", "added_kv_proj_dim", "num_layers", "num_attention_heads",
    "attention_head_dim", "ffn_dim", "pos_embed_seq_len", "vace_layers", "vace_in_channels",
)  # fmt: skip


def generate(request: Request) -> Outcome:
    """Make the video of `request`: encode, load the transformers, sample, write.

    The encoders are gone before the first transformer is loaded, so the peak is the larger of the two.

    Raises:
        VqError: the output exists, the checkpoint is damaged or of another model than `--model`, the device is
            not there or cannot run the scheme, the size does not fit, or the image is not one.
    """
    meter = Meter()
    check_output(request.output, FORMATS)
    request.sample.check_files()
    device = torch.device(resolve_device(request.device))
    checkpoint = open_checkpoint(request.checkpoint)
    kernel_for(device, checkpoint.scheme)

    def load_converted(name: str) -> nn.Module:
        return load_transformer(
            checkpoint.components[name], checkpoint.scheme, device, name, select_attention(AUTO, device)
        )

    pipeline = VideoPipeline(request.model, str(device), load_converted)
    layout = read_layout(pipeline.path)
    _require_task(layout, request)
    require_same_architecture(checkpoint, layout)
    stages: dict[str, float] = {}
    with _timed(stages, "encode"):
        (conditions,) = pipeline.encode([request.sample], request.sampling)
    with _timed(stages, "load"):
        transformers = pipeline.transformers
    steps = StepClock(device)
    with _timed(stages, "sample"), progress("sampling", request.sampling.steps, "step") as advance:

        def on_step() -> None:
            steps.tick()
            advance()

        frames = pipeline.sample(conditions, request.sampling, request.sampling.seed, on_step)
    with _timed(stages, "write"), local_output(request.output) as path:
        write_video(path, frames, request.sampling.fps)
    kernels = {name for transformer in transformers.values() for name in kernel_names(transformer)}
    return Outcome(
        output=request.output,
        kernels=tuple(sorted(kernels)),
        stages=stages,
        usage=meter.usage(),
        shape=(frames.shape[0], frames.shape[1], frames.shape[2]),
        step_seconds=steps.median(),
    )


def require_same_architecture(checkpoint: Checkpoint, layout: PipelineLayout) -> None:
    """Refuse a checkpoint whose transformers would not fit into the pipeline that `layout` describes.

    Only the configurations are read, so the model's own transformer weights need not be there.

    Raises:
        VqError: names the first difference.
    """
    path, converted = checkpoint.artifact.path, checkpoint.artifact.manifest.components
    if sorted(converted) != sorted(layout.transformers):
        raise VqError(
            f"{path} holds {' and '.join(sorted(converted))} and {layout.path} has "
            f"{' and '.join(layout.transformers)}: give the model that the checkpoint was made from."
        )
    for name, entry in converted.items():
        own = _read_config(layout.path / name / "config.json")
        for key in ARCHITECTURE:
            if entry.config.get(key) != own.get(key):
                raise VqError(
                    f"{path} was made from another model: its {name} has {key} {entry.config.get(key)} and that of "
                    f"{layout.path} has {own.get(key)}: give the model that it was made from."
                )


class StepClock:
    """Times the steps of a sampling loop."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._times = [time.monotonic()]

    def tick(self) -> None:
        """A step has ended; waits for the device, which runs behind the host."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._times.append(time.monotonic())

    def median(self) -> float | None:
        """Median seconds of a step; the first, which also encodes the image, counts only where it is alone."""
        durations = [after - before for before, after in pairwise(self._times)]
        return statistics.median(durations[1:] or durations) if durations else None


@contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    stages[stage] = time.monotonic() - start


def _require_task(layout: PipelineLayout, request: Request) -> None:
    inputs, task, model = layout.inputs, request.task, request.model
    if (task == "vace") != (layout.pipeline_class == VACE):
        right = "is steered by videos, masks and references" if layout.pipeline_class == VACE else "is no VACE model"
        raise VqError(f"{model} {right}: use `vq-infer {_task_of(inputs, layout)}`.")
    if task == "t2v" and "image" in inputs.required:
        raise VqError(f"{model} makes videos from images: use `vq-infer i2v` with --image.")
    if task == "i2v" and "image" not in inputs:
        raise VqError(f"{model} makes videos from text alone: use `vq-infer t2v`, or an image-to-video model.")
    if request.sample.last_image is not None and "last_image" not in inputs:
        raise VqError(f"{model} goes on from a first frame alone: leave --last-image out, or use a model for both.")
    if request.sample.last_image is None and "last_image" in inputs.required:
        raise VqError(f"{model} goes from a first frame to a last: give --last-image.")


def _task_of(inputs: Inputs, layout: PipelineLayout) -> Task:
    if layout.pipeline_class == VACE:
        return "vace"
    return "i2v" if "image" in inputs.required else "t2v"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise VqError(f"{path} cannot be read ({error}): get the whole pipeline again.") from None
    return config
