"""The options of each command, one a field; free of heavy imports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vq_core.cli.options import (
    INPUT,
    MEASUREMENT,
    MEMORY_AND_SPEED,
    METHOD,
    OUTPUT,
    PATH,
    AsJson,
    Device,
    Fps,
    ModelRunOptions,
    Output,
    QParams,
    Resume,
    Verbose,
    Weights,
    path_option,
)
from vq_core.recipes.ranges import Decibels, Similarity
from vq_core.remote.location import Location


@dataclass(frozen=True, kw_only=True)
class RunOptions(ModelRunOptions):
    """Of every command that runs the model over prompts and writes a folder."""

    output: Output = None
    resume: Resume = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class FakeQuantOptions(RunOptions):
    """Of `vq-eval fake-quant`."""

    weights: Weights = None
    qparams: QParams = None
    variants: Annotated[
        str | None,
        typer.Option(
            "--variants",
            help="Variants to render, comma-separated: full, floor, smoothed, fake-quant.  "
            "[default: full, and the last that --weights and --qparams allow]",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            metavar="BLOCKS:LINEARS",
            help="Leave linears in full precision: 0,38-39 or ffn.net.2 or 0,38-39:ffn.net.2; repeatable.",
            rich_help_panel=METHOD,
        ),
    ] = None
    fps: Fps = None
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Folder that keeps the videos of the model itself.  [default: in the user's cache]",
            rich_help_panel=MEMORY_AND_SPEED,
        ),
    ] = None
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Render the videos of the model itself again, and keep none.",
            rich_help_panel=MEMORY_AND_SPEED,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Of `vq-eval compare`."""

    reference: Annotated[Location | None, path_option("--reference", help="Folder of videos to compare against.")] = (
        None
    )
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            metavar=f"[NAME=]{PATH}",
            help="Folder of videos with the same names, and its name in tables; repeatable.",
            rich_help_panel=INPUT,
        ),
    ] = None
    floor: Annotated[
        Location | None,
        path_option("--floor", help="Full precision again, with another attention kernel and the same seeds."),
    ] = None
    prompts: Annotated[
        Location | None,
        path_option(
            "--prompts", help="What the videos were made from, for metrics that need first frames or captions."
        ),
    ] = None
    output: Output = None
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            help="Comma-separated names, or all: every metric that this machine can measure.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = "all"
    gate: Annotated[
        Location | None,
        path_option("--gate", help="YAML or JSON file with limits that every candidate must meet.", panel=MEASUREMENT),
    ] = None
    min_psnr: Annotated[
        Decibels | None,
        typer.Option(
            "--min-psnr", help="Fail if a video of a candidate has a lower PSNR, in dB.", rich_help_panel=MEASUREMENT
        ),
    ] = None
    min_ssim: Annotated[
        Similarity | None,
        typer.Option(
            "--min-ssim",
            help="Fail if a video of a candidate has a lower SSIM (at most 1).",
            rich_help_panel=MEASUREMENT,
        ),
    ] = None
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions(RunOptions):
    """Of `vq-eval trajectory`."""

    weights: Annotated[
        list[Location] | None,
        path_option("--weights", help="Smoothed weights that the candidates were made from; repeatable."),
    ] = None
    qparams: Annotated[
        list[str] | None,
        typer.Option(
            "--qparams",
            metavar=f"[NAME=]{PATH}",
            help="A candidate: quant params from `vq-algos quantize`; repeatable.",
            rich_help_panel=INPUT,
        ),
    ] = None
    floor: Annotated[
        bool,
        typer.Option(
            "--floor/--no-floor",
            help="Measure full precision with another attention kernel, too.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = True


@dataclass(frozen=True, kw_only=True)
class LayersOptions(RunOptions):
    """Of `vq-eval layers`."""

    weights: Weights = None
    qparams: QParams = None
    sensitivity: Annotated[
        str | None,
        typer.Option(
            "--sensitivity",
            metavar="K|K,K,…",
            help="Sample again with the worst 1 to K places in full precision, or with each count of a list.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = None
    sensitivity_of: Annotated[
        str,
        typer.Option(
            "--sensitivity-of",
            metavar="linears|blocks",
            help="What --sensitivity leaves out.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = "linears"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Of `vq-eval report`."""

    comparison: Annotated[Location | None, path_option("--comparison", help="Output of `vq-eval compare`.")] = None
    trajectory: Annotated[Location | None, path_option("--trajectory", help="Output of `vq-eval trajectory`.")] = None
    layers: Annotated[
        list[Location] | None,
        path_option("--layers", help="Output of `vq-eval layers` for a candidate; repeatable."),
    ] = None
    artifacts: Annotated[
        list[Location] | None,
        path_option(
            "--artifacts",
            help="Folder in which to look for what the videos were made from, beside that of the videos; repeatable.",
        ),
    ] = None
    output: Output = None
    lossless_frames: Annotated[
        bool | None,
        typer.Option(
            "--lossless-frames/--no-lossless-frames",
            help="Write every frame losslessly, for exact differences.  [default: where all are below 64 megapixels]",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    as_json: AsJson = False
    verbose: Verbose = False
