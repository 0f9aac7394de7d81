"""The options of `vq-infer bench`, one a field; free of heavy imports."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from vq_core.cli.options import INPUT, MEASUREMENT, OUTPUT, SAMPLING, AsJson, Device, Verbose, path_option
from vq_core.recipes.ranges import Count, FrameCount, Seconds, Side
from vq_core.remote.location import Location

sampling_option = partial(typer.Option, rich_help_panel=SAMPLING)
measurement_option = partial(typer.Option, rich_help_panel=MEASUREMENT)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of `vq-infer bench`; None if not given."""

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
    component: Annotated[
        str, typer.Option("--component", help="Component of the checkpoint.", rich_help_panel=INPUT)
    ] = "transformer"
    output: Annotated[
        Location | None,
        path_option("--output", "-o", help="Folder for JSON, page and chart; must not exist.", panel=OUTPUT),
    ] = None
    chart: Annotated[
        bool, typer.Option("--chart/--no-chart", help="Draw a chart into the output.", rich_help_panel=OUTPUT)
    ] = True
    height: Annotated[Side, sampling_option("--height", help="In pixels.")] = 480
    width: Annotated[Side, sampling_option("--width", help="In pixels.")] = 832
    num_frames: Annotated[FrameCount, sampling_option("--num-frames", help="Frames, 4k + 1.")] = 81
    contenders: Annotated[
        list[str] | None, measurement_option("--contender", help="What to measure; repeatable.  [default: all]")
    ] = None
    seconds: Annotated[Seconds, measurement_option("--seconds", help="Seconds of steady load for each contender.")] = (
        15.0
    )
    blocks: Annotated[
        Count | None,
        measurement_option("--blocks", help="Number of blocks to measure, from the first.  [default: all]"),
    ] = None
    extrapolate: Annotated[
        bool,
        measurement_option("--extrapolate", help="Extrapolate from --blocks and from one block to the whole model."),
    ] = False
    start_limit: Annotated[
        Seconds, measurement_option("--start-limit", help="Time limit for the first step, in seconds.")
    ] = 300.0
    details: Annotated[
        bool, measurement_option("--details/--no-details", help="Break a pass down by kind of work, beside the floor.")
    ] = True
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False
