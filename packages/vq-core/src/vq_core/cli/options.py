"""Command-line options that several stages share, so that an option reads the same everywhere.

`None` means "not said": the recipe, the model or the default holds, see `vq_core.recipes.recipe.resolve`.
"""

from typing import Annotated, Any

import typer

from vq_core.recipes.named_recipes import recipe_names
from vq_core.remote.location import Location, parse_location

PATH = "PATH|URI"


def path_option(*names: str, help: str) -> Any:  # noqa: A002 typer's word
    """Typer's option for a `Location | None`; typer's own `Path` would take a slash from `s3://`."""
    return typer.Option(*names, parser=parse_location, metavar=PATH, help=help, show_default=False)


def path_argument(*, help: str) -> Any:  # noqa: A002
    """Typer's argument for a `Location`, or a list of them."""
    return typer.Argument(parser=parse_location, metavar=PATH, help=help, show_default=False)


MODEL_HELP = (
    "Diffusers pipeline folder, URI, hub id, or a built-in model: wan-tiny, wan-tiny-hard. "
    "Where no video is made also a transformer folder, one in Wan-AI's layout, or a safetensors file."
)
Model = Annotated[str | None, typer.Option("--model", help=MODEL_HELP, show_default=False)]
ModelOrDefault = Annotated[
    str | None,
    typer.Option("--model", help=f"{MODEL_HELP}  [default: wan-tiny, the built-in model]", show_default=False),
]
Output = Annotated[Location | None, path_option("--output", "-o", help="Folder or file to write; must not exist.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run into the same output.")]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cuda (under torchrun each process its own), cuda:1, cpu …  [default: cuda where there is one]",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of the first prompt; prompt i uses seed + i.  [default: 42]", show_default=False),
]
Recipe = Annotated[
    Location | None,
    path_option("--recipe", help=f"YAML with settings: ours, one of LLMC's unchanged, or {', '.join(recipe_names())}."),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="[COMPONENT=]FILE[:STRENGTH]",
        help="LoRA to merge into the model; repeatable. Of two experts, transformer= or transformer_2= takes one.",
        show_default=False,
    ),
]
AllowPth = Annotated[
    bool,
    typer.Option(
        "--allow-pth", help="Read the model from .pth files too, by torch's loader of weights, which runs no code."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done to every tensor.")]
Weights = Annotated[Location | None, path_option("--weights", help="Smoothed weights from `vq-algos smooth`.")]
QParams = Annotated[Location | None, path_option("--qparams", help="Quant params from `vq-algos quantize`.")]
Prompts = Annotated[
    Location | None,
    path_option(
        "--prompts",
        help="Folder with samples.json and images, or the JSON file, or builtin:calibration, builtin:evaluation.",
    ),
]
Steps = Annotated[
    int | None, typer.Option("--steps", help="Denoising steps.  [default: the model's, else 40]", show_default=False)
]
Height = Annotated[
    int | None, typer.Option("--height", help="In pixels.  [default: the model's, else 480]", show_default=False)
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width",
        help="In pixels; with an image only the area counts.  [default: the model's, else 832]",
        show_default=False,
    ),
]
NumFrames = Annotated[
    int | None,
    typer.Option("--num-frames", help="Frames, 4k + 1.  [default: the model's, else 81]", show_default=False),
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(
        "--guidance-scale", help="1 turns guidance off.  [default: the model's, else 5.0]", show_default=False
    ),
]
GuidanceScale2 = Annotated[
    float | None,
    typer.Option(
        "--guidance-scale-2",
        help="Of Wan2.2's low-noise expert.  [default: as --guidance-scale]",
        show_default=False,
    ),
]
Fps = Annotated[
    int | None, typer.Option("--fps", help="Frames per second.  [default: the model's, else 16]", show_default=False)
]
