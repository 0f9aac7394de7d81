"""`vq-eval report`: everything that was measured, in one folder to look at."""

from typing import Annotated

import typer

from vq_core.cli.app import report, required, set_up_logging
from vq_core.cli.options import AsJson, Output, Verbose, path_option
from vq_core.remote.location import Location

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


def report_command(
    comparison: Comparison = None,
    trajectory: Trajectory = None,
    layers: LayersOfCandidates = None,
    artifacts: Artifacts = None,
    output: Output = None,
    lossless_frames: LosslessFrames = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make one folder that shows everything: the verdict, the videos side by side, plots, tables, and provenance.

    Open its `index.html`; it needs no network, and the folder can be sent as it is.
    The videos must still be where `compare` found them.

    For example:

        vq-eval report --comparison comparison -o report
        vq-eval report --comparison comparison --trajectory drift --layers layers-int8 --layers layers-fp8 -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_eval.report.build import make_report

    set_up_logging(verbose)
    meter = Meter()
    made = make_report(
        required(comparison, "--comparison"),
        required(output, "--output"),
        trajectory=trajectory,
        layers=layers or (),
        artifacts=artifacts or (),
        lossless_frames=lossless_frames,
    )
    report("Report", made.rows() | meter.usage().rows(), result=made.to_json(), as_json=as_json)


def add_command(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("report")(report_command)
