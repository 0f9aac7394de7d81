"""The native engine: the model's own pipeline with its transformers on codes."""

import os
import statistics
import sys
import time
from itertools import pairwise

import torch
from torch import nn

from vq_core.artifacts.checkpoint import ConvertedCheckpoint, open_checkpoint
from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_core.model.source import TRANSFORMER_WEIGHTS, resolve_model
from vq_core.remote.transfer import local_output
from vq_core.runtime.device import resolve_device
from vq_core.runtime.meter import StageMeter
from vq_core.runtime.progress import progress
from vq_core.sampling.pipeline import VideoPipeline, check_sampling
from vq_core.sampling.pipeline_layout import VACE, PipelineLayout, read_layout
from vq_core.sampling.prompts import ModelInputs
from vq_core.sampling.settings import Sampling
from vq_core.sampling.video import FORMATS, write_video
from vq_infer.engine.loader import Engine
from vq_infer.engine.transformer import kernel_for, runtime_dtype
from vq_infer.fused.ops import has_kernels
from vq_infer.memory.free import free_bytes, host_free_bytes
from vq_infer.memory.needs import read_memory
from vq_infer.memory.plan import MemoryPlan, require_plan
from vq_infer.options import EngineSettings, Task
from vq_infer.parallel.plan import launch_of
from vq_infer.parallel.team import Team, parallelize, team
from vq_infer.request import Outcome, VideoRequest, check_output

# What a transformer must share with the model whose encoders and VAE surround it.
ARCHITECTURE = (
    "in_channels", "out_channels", "text_dim", "image_dim", "added_kv_proj_dim", "num_layers", "num_attention_heads",
    "attention_head_dim", "ffn_dim", "pos_embed_seq_len", "vace_layers", "vace_in_channels",
)  # fmt: skip


def generate(request: VideoRequest) -> Outcome | None:
    """Make the video of `request`: encode, load the transformers, sample, decode, write.

    Whatever can be refused is refused before the first weight is read.

    Returns:
        What was made; None in every process but the first of those that `torchrun` started for one video.

    Raises:
        VqError: the output exists, the checkpoint is damaged or of another model than `--model`, the device is
            not there or cannot run the scheme or the attention, memory does not suffice, the size does not fit, the
            processes are not those of `request.settings.parallel`, or the image is not one.
    """
    check_output(request.output, FORMATS)
    request.sample.check_files()
    device = torch.device(resolve_device(request.device))
    with team(request.settings.parallel, launch_of(os.environ), device) as here:
        return _generate(request, here)


def _generate(request: VideoRequest, here: Team) -> Outcome | None:
    meter = StageMeter()
    device, sampling, first = here.device, request.sampling, here.launch.is_first
    checkpoint = open_checkpoint(request.checkpoint)
    kernel_for(device, checkpoint.scheme)
    layout = read_layout(resolve_model(request.model, without=TRANSFORMER_WEIGHTS))
    _require_task(layout, request)
    require_same_architecture(checkpoint, layout)
    check_sampling(layout, sampling)
    references = len(request.sample.reference_images)
    plan = plan_for(request.settings, sampling, checkpoint, layout, device, references=references, alone=True)
    engine = Engine(checkpoint, device, plan, request.settings, vace=layout.pipeline_class == VACE)

    def load(name: str) -> nn.Module:
        meter.begin("load")
        transformer = engine.load(name)
        parallelize(transformer, here, tokens=tokens, guided=guided)
        meter.begin("sample")
        return transformer

    pipeline = VideoPipeline(str(layout.path), str(device), load, in_turns=plan.in_turns, vae_tiling=plan.vae_tiling)
    tokens, guided = pipeline.video_tokens(request.sample, sampling), sampling.guidance_scale > 1
    for component in checkpoint.components.values():
        heads = int(str(component.config["num_attention_heads"]))
        here.plan.check_video(heads=heads, tokens=tokens, guided=guided)
    if first:
        print(f"memory: {plan.describe()}", file=sys.stderr, flush=True)
    meter.begin("encode")
    (conditions,) = pipeline.encode([request.sample], sampling)  # images for the VAE follow before the first step
    if not first:
        pipeline.denoise(conditions, sampling, sampling.seed)
        return None
    steps = StepClock(device)
    with progress("sampling", sampling.steps, "step") as advance:

        def on_step() -> None:
            steps.tick()
            advance()
            if steps.count == sampling.steps:
                meter.begin("decode")

        frames = pipeline.sample(conditions, sampling, sampling.seed, on_step)
    meter.begin("write")
    with local_output(request.output) as path:
        write_video(path, frames, sampling.fps)
    stages, usage = meter.finish()
    return Outcome(
        output=request.output,
        kernels=engine.kernels,
        stages=stages,
        usage=usage,
        shape=(frames.shape[0], frames.shape[1], frames.shape[2]),
        step_seconds=steps.median(),
        memory=plan.describe(),
        passes=engine.passes,
    )


def plan_for(
    settings: EngineSettings,
    sampling: Sampling,
    checkpoint: ConvertedCheckpoint,
    layout: PipelineLayout,
    device: torch.device,
    *,
    references: int,
    alone: bool,
) -> MemoryPlan:
    """How a video with that many reference images uses memory, from headers and from what is free now.

    It is made `alone`, or others of its size come after it.

    Raises:
        VqError: it does not suffice; says what would fit.
    """
    memory = read_memory(checkpoint, layout, itemsize=runtime_dtype(device).itemsize, fused=has_kernels(device))
    return require_plan(
        lambda sampling: memory.needs(sampling, references=references),
        sampling,
        settings.offload,
        settings.vae_tiling,
        device=str(device),
        free=free_bytes(device),
        host_free=host_free_bytes(),
        alone=alone,
    )


def require_same_architecture(checkpoint: ConvertedCheckpoint, layout: PipelineLayout) -> None:
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
        own = read_json(layout.path / name / "config.json", missing="get the whole pipeline again")
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

    @property
    def count(self) -> int:
        """Steps that have ended."""
        return len(self._times) - 1

    def median(self) -> float | None:
        """Median seconds of a step; the first, which also encodes the image, counts only where it is alone."""
        durations = [after - before for before, after in pairwise(self._times)]
        return statistics.median(durations[1:] or durations) if durations else None


def _require_task(layout: PipelineLayout, request: VideoRequest) -> None:
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


def _task_of(inputs: ModelInputs, layout: PipelineLayout) -> Task:
    if layout.pipeline_class == VACE:
        return "vace"
    return "i2v" if "image" in inputs.required else "t2v"
