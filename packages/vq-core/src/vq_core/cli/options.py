"""Command-line options that several stages share, so that an option is the same everywhere.

A command's options are the fields of a frozen dataclass (see `takes_options`). `None` means "not given": the recipe,
the model or the default decides, see `vq_core.recipes.recipe.resolve`.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from vq_core.recipes.named_recipes import recipe_names
from vq_core.recipes.ranges import FrameCount, FrameRate, Guidance, Seed, Side, Steps
from vq_core.remote.location import Location, parse_location

PATH = "PATH|URI"

INPUT, OUTPUT, METHOD, SAMPLING = "Input", "Output", "Method", "Sampling"
MEASUREMENT, VERIFICATION = "Measurement", "Verification"
MEMORY_AND_SPEED, SEVERAL_GPUS, LIGHTX2V, GENERAL = "Memory and speed", "Several GPUs", "LightX2V", "General"
PANELS = (INPUT, OUTPUT, METHOD, SAMPLING, MEASUREMENT, VERIFICATION, MEMORY_AND_SPEED, SEVERAL_GPUS, LIGHTX2V, GENERAL)
"""The panels of `--help`, in order. An option has the same panel in every command."""


def path_option(*names: str, help: str, panel: str = INPUT) -> Any:  # noqa: A002 typer's word
    """Typer's option for a `Location | None`; typer's own `Path` would take a slash from `s3://`."""
    return typer.Option(*names, parser=parse_location, metavar=PATH, help=help, rich_help_panel=panel)


def path_argument(*, help: str) -> Any:  # noqa: A002
    """Typer's argument for a `Location`, or a list of them."""
    return typer.Argument(parser=parse_location, metavar=PATH, help=help, show_default=False)


MODEL_HELP = (
    "Diffusers pipeline folder, URI, hub id, or a built-in model: wan-tiny, wan-tiny-hard, wan-tiny-harder. "
    "Where no video is made also a transformer folder, one in Wan-AI's layout, or a safetensors file."
)
Model = Annotated[str | None, typer.Option("--model", help=MODEL_HELP, rich_help_panel=INPUT)]
ModelOrDefault = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"{MODEL_HELP}  [default: that of the artifacts; without any the toy wan-tiny]",
        rich_help_panel=INPUT,
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="[COMPONENT=]FILE[:STRENGTH]",
        help="LoRA to merge into the model; repeatable. Of two experts, transformer= or transformer_2= takes one.",
        rich_help_panel=INPUT,
    ),
]
AllowPth = Annotated[
    bool,
    typer.Option(
        "--allow-pth",
        help="Also read .pth files, with torch's weights-only loader, which runs no code.",
        rich_help_panel=INPUT,
    ),
]
Weights = Annotated[Location | None, path_option("--weights", help="Smoothed weights from `vq-algos smooth`.")]
QParams = Annotated[Location | None, path_option("--qparams", help="Quant params from `vq-algos quantize`.")]
Prompts = Annotated[
    Location | None,
    path_option(
        "--prompts",
        help="Folder with samples.json and images, or the JSON file, or builtin:calibration, builtin:evaluation.",
    ),
]
Recipe = Annotated[
    Location | None,
    path_option("--recipe", help=f"YAML with settings: ours, one of LLMC's unchanged, or {', '.join(recipe_names())}."),
]
Output = Annotated[
    Location | None, path_option("--output", "-o", help="Folder or file to write; must not exist.", panel=OUTPUT)
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted run into the same output.", rich_help_panel=OUTPUT),
]
Fps = Annotated[
    FrameRate | None,
    typer.Option("--fps", help="Frames per second.  [default: the model's, else 16]", rich_help_panel=SAMPLING),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cuda (under torchrun each process its own), cuda:1, cpu …  [default: cuda where there is one]",
        rich_help_panel=GENERAL,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=GENERAL)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what is done to every tensor.", rich_help_panel=GENERAL)
]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """What was said of how videos are sampled; `resolve_sampling` fills in the rest."""

    steps: Annotated[
        Steps | None,
        typer.Option("--steps", help="Denoising steps.  [default: the model's, else 40]", rich_help_panel=SAMPLING),
    ] = None
    height: Annotated[
        Side | None,
        typer.Option("--height", help="Height in pixels.  [default: the model's, else 480]", rich_help_panel=SAMPLING),
    ] = None
    width: Annotated[
        Side | None,
        typer.Option(
            "--width",
            help="In pixels; with an image only the area counts.  [default: the model's, else 832]",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    num_frames: Annotated[
        FrameCount | None,
        typer.Option("--num-frames", help="Frames, 4k + 1.  [default: the model's, else 81]", rich_help_panel=SAMPLING),
    ] = None
    guidance_scale: Annotated[
        Guidance | None,
        typer.Option(
            "--guidance-scale",
            help="1 turns guidance off.  [default: the model's, else 5.0]",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    guidance_scale_2: Annotated[
        Guidance | None,
        typer.Option(
            "--guidance-scale-2",
            help="Guidance scale of Wan2.2's low-noise expert.  [default: as --guidance-scale]",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    seed: Annotated[
        Seed | None,
        typer.Option(
            "--seed",
            help="Seed of the first prompt; prompt i uses seed + i.  [default: 42]",
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelRunOptions(SamplingOptions):
    """Options of every command that runs the model over prompts."""

    model: ModelOrDefault = None
    lora: Lora = None
    prompts: Prompts = None
    recipe: Recipe = None
    device: Device = None
    as_json: AsJson = False
