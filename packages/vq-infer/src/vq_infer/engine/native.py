"""The native engine: the model's own pipeline with its transformers on codes."""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from vq_core.artifacts.converted import open_converted
from vq_core.artifacts.made_from import require_made_from
from vq_core.errors import VqError
from vq_core.media.video import FORMATS, write_video
from vq_core.model.source import TRANSFORMER_WEIGHTS, resolve_model
from vq_core.remote.transfer import local_output
from vq_core.runtime.device import resolve_device
from vq_core.runtime.meter import StageMeter
from vq_core.runtime.process import this_process
from vq_core.runtime.progress import progress
from vq_core.sampling.pipeline import VideoPipeline, check_sampling
from vq_core.sampling.pipeline_layout import VACE, PipelineLayout, read_layout
from vq_core.sampling.prompts import ModelInputs
from vq_infer.engine.architecture import require_same_architecture
from vq_infer.engine.loader import Engine
from vq_infer.engine.transformer import kernel_for
from vq_infer.memory.plan import plan_for
from vq_infer.options import Task
from vq_infer.parallel.team import Team, parallelize, team
from vq_infer.request import Outcome, VideoRequest, check_format
from vq_infer.timing import StepClock


def generate(request: VideoRequest) -> Outcome | None:
    """Make the video of `request`: encode, load the transformers, sample, decode, write.

    Everything that can be checked is checked before the first weight is read.

    Returns:
        The outcome; None in all processes but the first of those that `torchrun` started for one video.

    Raises:
        VqError: the output exists, the checkpoint is damaged or of another model than `--model`, the device is missing
            or cannot run the scheme or the attention, memory does not suffice, the size does not fit, the number of
            processes is not that of `request.settings.parallel`, or the image cannot be decoded.
    """
    check_format(request.output, FORMATS)
    device = torch.device(resolve_device(request.device))
    process = this_process()
    with (
        local_output(request.output) if process.is_first else nullcontext() as output,
        team(request.settings.parallel, process, device) as here,
    ):
        request.sample.opened()  # refuses what cannot be decoded
        return _generate(request, here, output)


def _generate(request: VideoRequest, here: Team, output: Path | None) -> Outcome | None:
    meter = StageMeter()
    device, sampling = here.device, request.sampling
    checkpoint = open_converted(request.checkpoint)
    for scheme in checkpoint.schemes:
        kernel_for(device, scheme.weight)
    layout = read_layout(resolve_model(request.model, without=TRANSFORMER_WEIGHTS))
    _require_task(layout, request)
    require_same_architecture(checkpoint, layout)
    require_made_from(checkpoint, request.model, layout.path)
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
    tokens, guided = pipeline.video_tokens(request.sample, sampling), sampling.guided
    for component in checkpoint.components.values():
        heads = int(str(component.config["num_attention_heads"]))
        here.plan.check_video(heads=heads, tokens=tokens, guided=guided)
    if output is not None:
        print(f"memory: {plan.describe()}", file=sys.stderr, flush=True)
    meter.begin("encode")
    (conditions,) = pipeline.encode([request.sample], sampling)  # images for the VAE follow before the first step
    if output is None:
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
    write_video(output, frames, sampling.fps)
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


def _require_task(layout: PipelineLayout, request: VideoRequest) -> None:
    inputs, task, model = layout.inputs, request.task, request.model
    if (task == "vace") != (layout.pipeline_class == VACE):
        right = "takes videos, masks and references" if layout.pipeline_class == VACE else "is not a VACE model"
        raise VqError(f"{model} {right}: use `vq-infer {_task_of(inputs, layout)}`.")
    if task == "t2v" and "image" in inputs.required:
        raise VqError(f"{model} makes videos from images: use `vq-infer i2v` with --image.")
    if task == "i2v" and "image" not in inputs:
        raise VqError(f"{model} makes videos from text alone: use `vq-infer t2v`, or an image-to-video model.")
    if request.sample.last_image is not None and "last_image" not in inputs:
        raise VqError(f"{model} takes a first frame only: leave --last-image out, or use a model for both.")
    if request.sample.last_image is None and "last_image" in inputs.required:
        raise VqError(f"{model} needs a first and a last frame: add --last-image.")


def _task_of(inputs: ModelInputs, layout: PipelineLayout) -> Task:
    if layout.pipeline_class == VACE:
        return "vace"
    return "i2v" if "image" in inputs.required else "t2v"
