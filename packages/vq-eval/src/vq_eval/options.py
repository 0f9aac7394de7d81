"""Command-line options of `vq-eval` alone; those that stages share are in `vq_core.options`."""

from pathlib import Path
from typing import Annotated

import typer

from vq_core.location import Location
from vq_core.options import PATH, path_option

Reference = Annotated[Location | None, path_option("--reference", help="Folder of videos to compare against.")]
CandidateFolders = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar=f"[NAME=]{PATH}",
        help="Folder of videos with the same names, and its name in tables; repeatable.",
        show_default=False,
    ),
]
FloorVideos = Annotated[
    Location | None,
    path_option("--floor", help="Full precision once more, by another kernel or attention, from the same seeds."),
]
Metrics = Annotated[
    str, typer.Option("--metrics", help="Names with commas between them, or all: those that can be measured here.")
]
Gate = Annotated[Location | None, path_option("--gate", help="YAML or JSON file of limits that have to be kept.")]
PromptsOfVideos = Annotated[
    Location | None,
    path_option("--prompts", help="What the videos were made from, for metrics that need first frames or captions."),
]
MinPsnr = Annotated[
    float | None,
    typer.Option("--min-psnr", help="Fail where a candidate's video has less PSNR, in dB.", show_default=False),
]
MinSsim = Annotated[
    float | None,
    typer.Option("--min-ssim", help="Fail where a candidate's video has less SSIM, 1 at best.", show_default=False),
]
Variants = Annotated[
    str | None,
    typer.Option(
        "--variants",
        help="Of full,floor,smoothed,fake-quant.  [default: full, and the last that --weights and --qparams allow]",
        show_default=False,
    ),
]

Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="BLOCKS:LINEARS",
        help="Leave linears in full precision: 0,38-39 or ffn.net.2 or 0,38-39:ffn.net.2; repeatable.",
        show_default=False,
    ),
]

WeightsOfAll = Annotated[
    list[Location] | None,
    path_option("--weights", help="Smoothed weights that the candidates were made from; repeatable."),
]
NamedQParams = Annotated[
    list[str] | None,
    typer.Option(
        "--qparams",
        metavar="[NAME=]PATH|URI",
        help="A candidate: quant params from `vq-algos quantize`; repeatable.",
        show_default=False,
    ),
]
MeasureFloor = Annotated[
    bool, typer.Option("--floor/--no-floor", help="Measure full precision with another attention kernel, too.")
]
SensitivityOption = Annotated[
    str | None,
    typer.Option(
        "--sensitivity",
        metavar="K|K,K,…",
        help="Sample again with the worst 1 to K in full precision, or those of a list.",
        show_default=False,
    ),
]
SensitivityUnit = Annotated[
    str, typer.Option("--sensitivity-of", metavar="linears|blocks", help="What --sensitivity leaves out.")
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder that keeps videos of the model itself.  [default: in the user's cache]"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Make videos of the model itself anew, and keep none.")]
Comparison = Annotated[Location | None, path_option("--comparison", help="What `vq-eval compare` has written.")]
Trajectory = Annotated[Location | None, path_option("--trajectory", help="What `vq-eval trajectory` has written.")]
LayersOfCandidates = Annotated[
    list[Location] | None,
    path_option("--layers", help="What `vq-eval layers` has written of a candidate; repeatable."),
]
Artifacts = Annotated[
    list[Location] | None,
    path_option(
        "--artifacts",
        help="Folder in which to look for what the videos were made from, beside that of the videos; repeatable.",
    ),
]
LosslessFrames = Annotated[
    bool | None,
    typer.Option(
        "--lossless-frames/--no-lossless-frames",
        help="Write every frame without loss, for exact differences.  [default: where all are below 64 megapixels]",
        show_default=False,
    ),
]
