"""The request for one video and its outcome, the same for every engine."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vq_core.artifacts.converted import converted_manifest
from vq_core.artifacts.model_choice import chosen_model
from vq_core.cli.app import required
from vq_core.cli.sampling import resolve_sampling
from vq_core.errors import VqError
from vq_core.recipes.recipe import DEFAULTS, read_recipe, resolve
from vq_core.remote.location import Location
from vq_core.remote.transfer import exists, local_copy
from vq_core.runtime.meter import Usage
from vq_core.sampling.model_defaults import checked, defaults_of
from vq_core.sampling.prompts import TEXT_ONLY, Sample
from vq_core.sampling.settings import Sampling
from vq_core.store.manifest import FILE_NAME
from vq_infer.options import EngineSettings, Task, VideoOptions, engine_settings


@dataclass(frozen=True)
class VideoRequest:
    """One video to make: `model` gives encoders and VAE, `checkpoint` the quantized transformers."""

    task: Task
    model: str
    checkpoint: Location
    sample: Sample
    output: Location
    sampling: Sampling
    device: str | None
    settings: EngineSettings = field(default_factory=EngineSettings)


@dataclass(frozen=True)
class Outcome:
    """A finished video.

    Attributes:
        output: the video's file.
        kernels: names of the kernels that ran.
        stages: time and peak memory by stage, in order.
        usage: time and peak memory of the whole run.
        shape: frames, height and width; None if the engine does not return the frames.
        step_seconds: median time of a sampling step after the first; None if the engine does not report it.
        memory: the memory plan in a line; None if the engine makes none.
        passes: passes through transformers, asked and computed; None without a cache.
    """

    output: Location
    kernels: tuple[str, ...]
    stages: dict[str, Usage]
    usage: Usage
    shape: tuple[int, int, int] | None = None
    step_seconds: float | None = None
    memory: str | None = None
    passes: tuple[int, int] | None = None

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        rows = {}
        if self.shape is not None:
            frames, height, width = self.shape
            rows["video"] = f"{frames} frames of {width}x{height}"
        rows["kernels"] = ", ".join(self.kernels)
        if self.step_seconds is not None:
            rows["per step"] = f"{self.step_seconds:.2f} s"
        if self.passes is not None:
            asked, computed = self.passes
            rows["cache"] = f"{computed} of {asked} passes computed"
        rows["stages"] = ", ".join(_stage(name, usage) for name, usage in self.stages.items())
        if self.memory is not None:
            rows["memory plan"] = self.memory
        return rows | self.usage.rows()

    def to_json(self) -> dict[str, object]:
        """The outcome as JSON: seconds and bytes."""
        return asdict(self) | {"output": str(self.output)}


def _stage(name: str, usage: Usage) -> str:
    device = f" ({usage.device_peak_bytes / 2**30:.1f} GiB)" if usage.device_peak_bytes else ""
    return f"{name} {usage.seconds:.1f} s{device}"


def resolve_request(task: Task, options: VideoOptions) -> VideoRequest:
    """The request: a setting comes from the options, else the recipe's `eval`, else the checkpoint, else the model.

    Without another, the model is the one that the checkpoint was made from, except for LightX2V, which reads native
    folders; these have no sampling settings of their own.

    Raises:
        VqError: the recipe cannot be read, something without a default is missing, or see `engine_settings`.
    """
    settings = engine_settings(options)
    recipe = read_recipe(options.recipe)
    said = recipe.eval
    said_model, native = options.model or recipe.model, options.engine == "native"
    checkpoint = required(options.checkpoint or recipe.path_of("lightx2v"), "--checkpoint")
    model = chosen_model(said_model, [checkpoint]).name if native else required(said_model, "--model")
    image = required(options.image, "--image") if task == "i2v" else None
    sample = Sample(
        required(options.prompt, "--prompt"),
        options.negative_prompt,
        _local(image),
        _local(options.last_image),
        tuple(local_copy(reference) for reference in options.reference_images or ()),
        _local(options.video),
        _local(options.mask),
    )
    sample.require(TEXT_ONLY, "The command")
    output = required(options.output, "--output")
    defaults = (defaults_of(model) if native else DEFAULTS).with_said(said_by_checkpoint(checkpoint))
    fps = resolve(options.fps, said.fps, None)
    sampling = resolve_sampling(options, said, defaults, fps=fps, seed=recipe.seed)
    return VideoRequest(task, model, checkpoint, sample, output, sampling, options.device, settings)


def _local(location: Location | None) -> Path | None:
    return None if location is None else local_copy(location)


def said_by_checkpoint(location: Location) -> dict[str, Any]:
    """Sampling settings in the checkpoint at `location`; empty if it is no checkpoint.

    Only the manifest is read: engines open the checkpoint itself, and refuse what is none.
    """
    if not exists(location / FILE_NAME):
        return {}
    folder = local_copy(location, only=[FILE_NAME])
    return checked(converted_manifest(folder).settings.get("sampling"), folder / FILE_NAME)


def check_format(output: Location, formats: tuple[str, ...]) -> None:
    """Check that the ending of `output` is one of the video `formats`.

    Raises:
        VqError: it is not.
    """
    if not output.name.lower().endswith(formats):
        raise VqError(f"{output} is not a video format that this engine writes: end it in {' or '.join(formats)}.")
