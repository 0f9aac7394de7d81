"""The options of each command, one a field, and the native engine's settings from them; free of heavy imports."""

from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Annotated, Literal

import typer

from vq_core.cli.options import (
    GENERAL,
    INPUT,
    LIGHTX2V,
    MEMORY_AND_SPEED,
    MODEL_HELP,
    SEVERAL_GPUS,
    AsJson,
    Device,
    Fps,
    Output,
    Prompts,
    Recipe,
    Resume,
    SamplingOptions,
    Verbose,
    path_option,
)
from vq_core.errors import VqError
from vq_core.recipes.ranges import Count, Share
from vq_core.remote.location import Location
from vq_infer.parallel.plan import ParallelPlan

Task = Literal["i2v", "t2v", "vace"]
EngineName = Literal["native", "lightx2v"]
AttentionName = Literal["auto", "sdpa", "cudnn", "flash3", "flash4", "sage", "fp8"]
"""`auto` and the files of `vq_infer/attention`; a test compares them."""
OffloadName = Literal["auto", "none", "block"]
CacheName = Literal["first-block", "taylorseer"]
CACHE_VALUES: dict[CacheName, float] = {"first-block": 0.08, "taylorseer": 3}
"""The caches with their default values: FirstBlock's threshold, TaylorSeer's interval in steps."""

speed_option = partial(typer.Option, rich_help_panel=MEMORY_AND_SPEED)
gpus_option = partial(typer.Option, rich_help_panel=SEVERAL_GPUS)
lightx2v_option = partial(typer.Option, rich_help_panel=LIGHTX2V)

ModelOfCheckpoint = Annotated[
    str | None,
    typer.Option("--model", help=f"{MODEL_HELP}  [default: that of the checkpoint]", rich_help_panel=INPUT),
]
FILES = ("image", "last_image", "reference_images", "video", "mask")


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Options of the native engine."""

    attention: Annotated[
        AttentionName,
        speed_option("--attention", help="Kernel for self-attention; auto picks the fastest that is exact enough."),
    ] = "sdpa"
    attention_tolerance: Annotated[
        Share | None,
        speed_option(
            "--attention-tolerance",
            help="Largest relative error that --attention auto accepts.  [default: that of 16 bits]",
        ),
    ] = None
    offload: Annotated[
        OffloadName,
        speed_option(
            "--offload", help="Blocks to keep in host memory: auto (only as many as needed), none, or block (all)."
        ),
    ] = "auto"
    vae_tiling: Annotated[
        bool | None,
        speed_option(
            "--vae-tiling/--no-vae-tiling", help="Decode in tiles.  [default: only if the video does not fit otherwise]"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(SamplingOptions, EngineOptions):
    """Options of every command that makes videos."""

    checkpoint: Annotated[
        Location | None, path_option("--checkpoint", help="Folder from `vq-export`, for LightX2V or ComfyUI.")
    ] = None
    recipe: Recipe = None
    output: Output = None
    fps: Fps = None
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class BatchOptions(GenerateOptions):
    """Options of `vq-infer batch`."""

    model: ModelOfCheckpoint = None
    prompts: Prompts = None
    resume: Resume = False


@dataclass(frozen=True, kw_only=True)
class VideoOptions(GenerateOptions):
    """Options of `vq-infer i2v`, `t2v` and `vace`; each command lacks those of `FILES` that it does not read."""

    model: ModelOfCheckpoint = None
    image: Annotated[Location | None, path_option("--image", help="The first frame.")] = None
    last_image: Annotated[
        Location | None, path_option("--last-image", help="The last frame, for models that end at one.")
    ] = None
    reference_images: Annotated[
        list[Location] | None,
        path_option("--reference", help="Image of something to show in the video; repeatable."),
    ] = None
    video: Annotated[Location | None, path_option("--video", help="Video to edit.")] = None
    mask: Annotated[
        Location | None,
        path_option("--mask", help="Part of --video to make anew: white in a video, or in one image for every frame."),
    ] = None
    prompt: Annotated[str | None, typer.Option("--prompt", help="What the video shows.", rich_help_panel=INPUT)] = None
    negative_prompt: Annotated[
        str,
        typer.Option(
            "--negative-prompt",
            help="What the video should not show.  [default: nothing]",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = ""
    engine: Annotated[
        EngineName, typer.Option("--engine", help="Engine that runs the checkpoint.", rich_help_panel=GENERAL)
    ] = "native"
    cache: Annotated[
        str | None,
        speed_option(
            "--cache",
            metavar="NAME[:VALUE]",
            help="Skip steps that change little: first-block (threshold 0.08) or taylorseer (every 3rd step is "
            "computed).  [default: none]",
        ),
    ] = None
    ulysses: Annotated[
        Count, gpus_option("--ulysses", help="Processes that share the video's tokens and heads, under torchrun.")
    ] = 1
    ring: Annotated[
        Count, gpus_option("--ring", help="Processes that share the video's tokens and pass keys and values around.")
    ] = 1
    cfg_parallel: Annotated[
        bool,
        gpus_option("--cfg-parallel", help="Half of the processes predict with the prompt, the other half without."),
    ] = False
    lightx2v_python: Annotated[
        str | None, lightx2v_option("--lightx2v-python", help="Python that has LightX2V.  [default: this one]")
    ] = None
    backend: Annotated[
        str | None, lightx2v_option("--backend", help="Kernels that LightX2V uses: vllm, sgl, …  [default: vllm]")
    ] = None


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Options of `vq-infer doctor`."""

    device: Device = None
    as_json: AsJson = False


@dataclass(frozen=True)
class CacheChoice:
    """A cache with its value: FirstBlock's threshold, or TaylorSeer's interval in steps."""

    name: CacheName
    value: float


@dataclass(frozen=True, kw_only=True)
class EngineSettings(EngineOptions):
    """How the native engine runs; `cache` and `parallel` are for single videos only."""

    cache: CacheChoice | None = None
    parallel: ParallelPlan = field(default_factory=ParallelPlan)


def engine_settings(options: BatchOptions | VideoOptions) -> EngineSettings:
    """The settings that `options` ask for.

    Raises:
        VqError: see `parse_cache`, or a tolerance is given without `--attention auto`.
    """
    if options.attention_tolerance is not None and options.attention != "auto":
        raise VqError("--attention-tolerance is for --attention auto: add it, or leave the tolerance out.")
    settings = EngineSettings(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
    if isinstance(options, BatchOptions):
        return settings
    parallel = ParallelPlan(options.ulysses, options.ring, options.cfg_parallel)
    return replace(settings, cache=parse_cache(options.cache), parallel=parallel)


def parse_cache(text: str | None) -> CacheChoice | None:
    """The cache that `NAME[:VALUE]` asks for; None for no text and for `none`.

    Raises:
        VqError: there is no such cache, or the value is not valid for it.
    """
    if text is None or text == "none":
        return None
    said, _, value_text = text.partition(":")
    name = next((known for known in CACHE_VALUES if known == said), None)
    if name is None:
        raise VqError(f"--cache {text}: `{said}` is not a cache: choose none, {' or '.join(CACHE_VALUES)}.")
    try:
        value = float(value_text or CACHE_VALUES[name])
    except ValueError:
        value = -1.0
    if name == "taylorseer" and not (value >= 2 and value.is_integer()):
        raise VqError(f"--cache {text}: give the interval as a whole number of steps, 2 or more, like taylorseer:3.")
    if name == "first-block" and not 0 < value < 1:
        raise VqError(f"--cache {text}: give the threshold as a number between 0 and 1, like first-block:0.08.")
    return CacheChoice(name, value)
