"""Videos of all prompts of a set, as an artifact that `vq-eval compare` compares with the model's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.artifacts.converted import open_converted
from vq_core.artifacts.made_from import require_made_from
from vq_core.artifacts.model_choice import chosen_model
from vq_core.artifacts.videos import FORMAT, KIND, Summary, create_videos, render_video, settings_of
from vq_core.cli.app import required
from vq_core.cli.sampling import resolve_sampling
from vq_core.model.source import TRANSFORMER_WEIGHTS, resolve_model
from vq_core.recipes.recipe import read_recipe, resolve
from vq_core.remote.location import Location
from vq_core.runtime.device import resolve_device
from vq_core.runtime.process import ALONE, Process
from vq_core.runtime.progress import progress
from vq_core.sampling.model_defaults import defaults_of
from vq_core.sampling.pipeline import VideoPipeline, check_sampling
from vq_core.sampling.pipeline_layout import VACE, PipelineLayout, read_layout
from vq_core.sampling.prompts import Sample, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.store.writer import ComponentHeader, Header
from vq_infer.engine.architecture import require_same_architecture
from vq_infer.engine.loader import Engine
from vq_infer.engine.transformer import kernel_for
from vq_infer.memory.plan import plan_for
from vq_infer.options import BatchOptions, EngineSettings, engine_settings
from vq_infer.request import said_by_checkpoint

VARIANT = "native"
"""The folder of the videos, named for the engine."""


@dataclass(frozen=True)
class BatchRequest:
    """The videos to make: `model` gives encoders and VAE, `checkpoint` the quantized transformers."""

    model: str
    checkpoint: Location
    prompts: Location
    output: Location
    sampling: Sampling
    device: str | None
    settings: EngineSettings


@dataclass(frozen=True)
class Batch:
    """The finished videos.

    Attributes:
        folder: with the videos in it.
        prompts: number of prompts.
        resumed_videos: number of videos that an earlier, interrupted run had finished.
        kernels: names of the kernels that the transformers ran with; empty if none was loaded.
        summary: seconds per video, and attention kernels.
    """

    folder: Location
    prompts: int
    resumed_videos: int
    kernels: tuple[str, ...]
    summary: Summary

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        resumed = f" ({self.resumed_videos} of them before)" if self.resumed_videos else ""
        made = {
            "videos": f"{self.prompts}{resumed}",
            "made in": self.summary.text(),
            "kernels": ", ".join(self.kernels),
        }
        return made | {"folder": str(self.folder)}

    def to_json(self) -> dict[str, object]:
        """The batch as JSON."""
        return vars(self) | {"folder": str(self.folder), "summary": self.summary.to_json()}


def resolve_batch(options: BatchOptions) -> BatchRequest:
    """The request: a setting comes from the options, else the recipe, else the checkpoint, else the model.

    Raises:
        VqError: the recipe cannot be read, something without a default is missing, or see `engine_settings`.
    """
    settings = engine_settings(options)
    recipe = read_recipe(options.recipe)
    checkpoint = required(options.checkpoint or recipe.path_of("lightx2v"), "--checkpoint")
    model = chosen_model(options.model or recipe.model, [checkpoint]).name
    defaults = defaults_of(model).with_said(said_by_checkpoint(checkpoint))
    fps = resolve(options.fps, recipe.eval.fps, None)
    sampling = resolve_sampling(options, recipe.eval, defaults, fps=fps, seed=recipe.seed)
    prompts = required(options.prompts or recipe.eval.prompts, "--prompts")
    output = required(options.output, "--output")
    return BatchRequest(model, checkpoint, prompts, output, sampling, options.device, settings)


def make_batch(request: BatchRequest, *, resume: bool = False, process: Process = ALONE) -> Batch | None:
    """Write `output/native/000.mkv` … with the native engine; prompt i has seed `sampling.seed` + i.

    Returns:
        The finished videos; None in all processes but the first.

    Raises:
        VqError: the output exists, the checkpoint is damaged or of another model, the prompts cannot be read, the
            settings or the device do not fit, or another process has failed.
    """
    checkpoint = open_converted(request.checkpoint)
    device = torch.device(resolve_device(request.device))
    for scheme in checkpoint.schemes:
        kernel_for(device, scheme.weight)
    layout = read_layout(resolve_model(request.model, without=TRANSFORMER_WEIGHTS))
    require_same_architecture(checkpoint, layout)
    require_made_from(checkpoint, request.model, layout.path)
    check_sampling(layout, request.sampling)
    samples = read_samples(request.prompts, layout.inputs)
    request.sampling.seeds(len(samples))  # refused before anything runs
    engine, pipeline = open_engine(request, checkpoint, layout, samples, device)
    header = Header(
        kind=KIND,
        format=FORMAT,
        tool=f"vq-infer {version('vq-infer')}",
        family=checkpoint.family_name,
        model=checkpoint.artifact.manifest.model,
        components={
            name: ComponentHeader(name, entry.fingerprint, entry.config, entry.merged)
            for name, entry in checkpoint.artifact.manifest.components.items()
        },
        settings={
            **settings_of(samples, request.sampling, pipeline),
            "variants": [VARIANT],
            "attention": engine.attention,
        },
        parents={checkpoint.artifact.manifest.kind: checkpoint.artifact.digest},
    )
    with create_videos(request.output, header, [VARIANT], len(samples), process=process, resume=resume) as videos:
        pending = videos.pending(VARIANT)
        if pending:
            encoded = pipeline.encode([samples[index] for index in pending], request.sampling)
            with progress("sample", len(pending) * request.sampling.steps, "step") as advance:
                for index, conditions in zip(pending, encoded, strict=True):
                    frames, record = render_video(pipeline, conditions, request.sampling, index, advance)
                    videos.draft(VARIANT, index).write(frames, request.sampling.fps, record)
                    videos.adopt(VARIANT, index)
    if not process.is_first:
        return None
    return Batch(request.output / VARIANT, len(samples), videos.resumed, engine.kernels, videos.noted[VARIANT])


def open_engine(
    request: BatchRequest,
    checkpoint: ConvertedCheckpoint,
    layout: PipelineLayout,
    samples: Sequence[Sample],
    device: torch.device,
) -> tuple[Engine, VideoPipeline]:
    """The engine and its pipeline, with memory planned for the largest video; nothing is loaded yet.

    Raises:
        VqError: memory does not suffice, or the device cannot run the attention.
    """
    references = max(len(sample.reference_images) for sample in samples)
    plan = plan_for(
        request.settings, request.sampling, checkpoint, layout, device, references=references, alone=len(samples) == 1
    )
    engine = Engine(checkpoint, device, plan, request.settings, vace=layout.pipeline_class == VACE)
    pipeline = VideoPipeline(
        str(layout.path), str(device), engine.load, in_turns=plan.in_turns, vae_tiling=plan.vae_tiling
    )
    return engine, pipeline
