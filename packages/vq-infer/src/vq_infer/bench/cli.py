"""`vq-infer bench`."""

from typing import Annotated

import typer

from vq_core.cli.app import report, set_up_logging
from vq_core.cli.options import AsJson, Device, Verbose, path_option
from vq_core.remote.location import Location
from vq_infer.bench.options import BenchOptions


def bench(
    model_size: Annotated[
        str | None,
        typer.Option(
            "--model-size",
            help="Shape of the random weights: 14b (I2V), 14b-t2v, a14b, 5b, 1.3b, tiny.  [default: 14b]",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Location | None, path_option("--checkpoint", help="Measure this converted checkpoint instead.")
    ] = None,
    component: Annotated[str, typer.Option("--component", help="Of the checkpoint.")] = "transformer",
    contenders: Annotated[
        list[str] | None,
        typer.Option("--contender", help="What to measure; repeatable.  [default: all]", show_default=False),
    ] = None,
    height: Annotated[int, typer.Option("--height", help="In pixels.")] = 480,
    width: Annotated[int, typer.Option("--width", help="In pixels.")] = 832,
    num_frames: Annotated[int, typer.Option("--num-frames", help="Frames, 4k + 1.")] = 81,
    device: Device = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Steady load for each contender.")] = 15.0,
    blocks: Annotated[
        int | None,
        typer.Option("--blocks", help="Measure the first so many blocks.  [default: all]", show_default=False),
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="From --blocks and from one block to the whole model.")
    ] = False,
    start_limit: Annotated[
        float, typer.Option("--start-limit", help="Seconds after which a first step is given up.")
    ] = 300.0,
    details: Annotated[
        bool, typer.Option("--details/--no-details", help="Break a pass down by kinds of work, beside the floor.")
    ] = True,
    chart: Annotated[bool, typer.Option("--chart/--no-chart", help="Draw one into the output.")] = True,
    output: Annotated[
        Location | None,
        path_option("--output", "-o", help="Folder for JSON, page and chart; must not exist."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure every way to run the model on this machine: seconds a step, first step, memory, and where the time goes.

    Without a checkpoint the weights are random, made on the device, and the same for every contender.

    For example:

        vq-infer bench -o bench

        vq-infer bench --height 720 --width 1280 --contender diffusers_eager --contender vq_fp8 -o bench720
    """
    from vq_infer.bench.command import bench as run
    from vq_infer.bench.report.page import summary, title

    set_up_logging(verbose)
    options = BenchOptions(
        model_size=model_size,
        checkpoint=checkpoint,
        component=component,
        contenders=tuple(contenders or ()),
        height=height,
        width=width,
        num_frames=num_frames,
        device=device,
        seconds=seconds,
        blocks=blocks,
        extrapolate=extrapolate,
        start_limit=start_limit,
        details=details,
        chart=chart,
        output=output,
    )
    results = run(options)
    report(title(results), summary(results), result=results.to_json(), as_json=as_json)
