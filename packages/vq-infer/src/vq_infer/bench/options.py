"""The options of `vq-infer bench`, one a field; free of heavy imports."""

from dataclasses import dataclass
from typing import Annotated

import typer

from vq_core.cli.options import INPUT, MEASUREMENT, OUTPUT, SAMPLING, AsJson, Device, Verbose, path_option
from vq_core.remote.location import Location


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What was said on the command line; None where nothing was."""

    model_size: Annotated[
        str | None,
        typer.Option(
            "--model-size",
            help="Shape of the random weights: 14b (I2V), 14b-t2v, a14b, 5b, 1.3b, tiny.  [default: 14b]",
            rich_help_panel=INPUT,
        ),
    ] = None
    checkpoint: Annotated[
        Location | None, path_option("--checkpoint", help="Measure this converted checkpoint instead.")
    ] = None
    component: Annotated[str, typer.Option("--component", help="Of the checkpoint.", rich_help_panel=INPUT)] = (
        "transformer"
    )
    output: Annotated[
        Location | None,
        path_option("--output", "-o", help="Folder for JSON, page and chart; must not exist.", panel=OUTPUT),
    ] = None
    chart: Annotated[
        bool, typer.Option("--chart/--no-chart", help="Draw a chart into the output.", rich_help_panel=OUTPUT)
    ] = True
    height: Annotated[int, typer.Option("--height", help="In pixels.", rich_help_panel=SAMPLING)] = 480
    width: Annotated[int, typer.Option("--width", help="In pixels.", rich_help_panel=SAMPLING)] = 832
    num_frames: Annotated[int, typer.Option("--num-frames", help="Frames, 4k + 1.", rich_help_panel=SAMPLING)] = 81
    contenders: Annotated[
        list[str] | None,
        typer.Option("--contender", help="What to measure; repeatable.  [default: all]", rich_help_panel=MEASUREMENT),
    ] = None
    seconds: Annotated[
        float, typer.Option("--seconds", help="Seconds of steady load for each contender.", rich_help_panel=MEASUREMENT)
    ] = 15.0
    blocks: Annotated[
        int | None,
        typer.Option(
            "--blocks", help="Number of blocks to measure, from the first.  [default: all]", rich_help_panel=MEASUREMENT
        ),
    ] = None
    extrapolate: Annotated[
        bool,
        typer.Option(
            "--extrapolate",
            help="Extrapolate from --blocks and from one block to the whole model.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = False
    start_limit: Annotated[
        float,
        typer.Option("--start-limit", help="Time limit for the first step, in seconds.", rich_help_panel=MEASUREMENT),
    ] = 300.0
    details: Annotated[
        bool,
        typer.Option(
            "--details/--no-details",
            help="Break a pass down by kind of work, beside the floor.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = True
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False
