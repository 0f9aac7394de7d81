"""What can be said on the command line, one option a field; free of heavy imports."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

from vq_core.cli.options import (
    MODEL_HELP,
    Device,
    Fps,
    GuidanceScale,
    GuidanceScale2,
    Height,
    NumFrames,
    Output,
    Recipe,
    Seed,
    Steps,
    Width,
    path_option,
)
from vq_core.errors import VqError
from vq_core.remote.location import Location
from vq_infer.parallel.plan import ParallelPlan

Task = Literal["i2v", "t2v", "vace"]
EngineName = Literal["native", "lightx2v"]
AttentionName = Literal["auto", "sdpa", "cudnn", "flash3", "flash4", "sage", "fp8"]
"""`auto` and the files of `vq_infer/attention`; a test holds them together."""
Attention = Annotated[
    AttentionName,
    typer.Option("--attention", help="What computes self-attention; auto takes the fastest that is exact enough."),
]
AttentionTolerance = Annotated[
    float | None,
    typer.Option(
        "--attention-tolerance",
        help="Relative error that --attention auto may have.  [default: that of 16 bits]",
        show_default=False,
    ),
]
OffloadName = Literal["auto", "none", "block"]
Offload = Annotated[
    OffloadName,
    typer.Option("--offload", help="Blocks that wait on the host: as many as must, none, or all."),
]
VaeTiling = Annotated[
    bool | None,
    typer.Option(
        "--vae-tiling/--no-vae-tiling",
        help="Decode in tiles.  [default: where nothing else makes it fit]",
        show_default=False,
    ),
]
CacheName = Literal["first-block", "taylorseer"]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="NAME[:VALUE]",
        help="Skip steps that change little: first-block (threshold 0.08) or taylorseer (every 3rd step is "
        "computed).  [default: none]",
        show_default=False,
    ),
]
CACHE_VALUES: dict[CacheName, float] = {"first-block": 0.08, "taylorseer": 3}
"""The caches, and the value of each where none is given: FirstBlock's threshold, TaylorSeer's interval in steps."""

FILES = ("image", "last_image", "reference_images", "video", "mask")


@dataclass(frozen=True)
class VideoOptions:
    """What was said on the command line; None where nothing was."""

    model: Annotated[
        str | None,
        typer.Option("--model", help=f"{MODEL_HELP}  [default for i2v: wan-tiny, the built-in]", show_default=False),
    ] = None
    checkpoint: Annotated[Location | None, path_option("--checkpoint", help="Folder that vq-export wrote.")] = None
    image: Annotated[Location | None, path_option("--image", help="The first frame.")] = None
    last_image: Annotated[
        Location | None, path_option("--last-image", help="The last frame, for models that end at one.")
    ] = None
    reference_images: Annotated[
        list[Location] | None,
        path_option("--reference", help="An image of what should appear in it; repeatable."),
    ] = None
    video: Annotated[Location | None, path_option("--video", help="The video that it is made over.")] = None
    mask: Annotated[
        Location | None,
        path_option("--mask", help="What of that is made anew: white in a video, or in an image for every frame."),
    ] = None
    prompt: Annotated[str | None, typer.Option("--prompt", help="What the video shows.", show_default=False)] = None
    negative_prompt: Annotated[
        str, typer.Option("--negative-prompt", help="What it should not show.  [default: nothing]", show_default=False)
    ] = ""
    output: Output = None
    engine: Annotated[EngineName, typer.Option("--engine", help="What runs the checkpoint.")] = "native"
    steps: Steps = None
    height: Height = None
    width: Width = None
    num_frames: NumFrames = None
    guidance_scale: GuidanceScale = None
    guidance_scale_2: GuidanceScale2 = None
    fps: Fps = None
    seed: Seed = None
    device: Device = None
    attention: Attention = "sdpa"
    attention_tolerance: AttentionTolerance = None
    cache: Cache = None
    offload: Offload = "auto"
    vae_tiling: VaeTiling = None
    ulysses: Annotated[
        int, typer.Option("--ulysses", help="Processes that share the video's tokens and heads, under torchrun.")
    ] = 1
    ring: Annotated[
        int, typer.Option("--ring", help="Processes that share its tokens and pass keys and values around.")
    ] = 1
    cfg_parallel: Annotated[
        bool, typer.Option("--cfg-parallel", help="One half of the processes predicts with the prompt, one without.")
    ] = False
    recipe: Recipe = None
    lightx2v_python: Annotated[
        str | None,
        typer.Option("--lightx2v-python", help="Python that has LightX2V.  [default: this one]", show_default=False),
    ] = None
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", help="Whose kernels LightX2V uses: vllm, sgl, …  [default: vllm]", show_default=False
        ),
    ] = None


@dataclass(frozen=True)
class CacheChoice:
    """A cache and its one value: FirstBlock's threshold, or TaylorSeer's interval in steps."""

    name: CacheName
    value: float


@dataclass(frozen=True)
class EngineSettings:
    """How the native engine is to run; see the options of the same names."""

    attention: AttentionName = "sdpa"
    attention_tolerance: float | None = None
    cache: CacheChoice | None = None
    offload: OffloadName = "auto"
    vae_tiling: bool | None = None
    parallel: ParallelPlan = field(default_factory=ParallelPlan)


def engine_settings(options: VideoOptions) -> EngineSettings:
    """Those that `options` say.

    Raises:
        VqError: the cache is none, or its value is none of its values; the tolerance is without `--attention auto`.
    """
    if options.attention_tolerance is not None and options.attention != "auto":
        raise VqError("--attention-tolerance is what --attention auto chooses by: add it, or leave the tolerance out.")
    return EngineSettings(
        options.attention,
        options.attention_tolerance,
        parse_cache(options.cache),
        options.offload,
        options.vae_tiling,
        ParallelPlan(options.ulysses, options.ring, options.cfg_parallel),
    )


def parse_cache(text: str | None) -> CacheChoice | None:
    """`NAME[:VALUE]`; None for nothing and for `none`.

    Raises:
        VqError: no such cache, or not such a value.
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
