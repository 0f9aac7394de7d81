"""`vq-eval report`: everything that was measured, in one folder to look at."""

from vq_core.cli.app import report, required, set_up_logging
from vq_core.cli.command import takes_options
from vq_eval.cli.options import ReportOptions


@takes_options(ReportOptions)
def report_command(options: ReportOptions) -> None:
    """Write one folder that shows everything: the verdict, the videos side by side, plots, tables, and provenance.

    Open its `index.html`; it needs no network, and the folder can be sent as it is.
    The videos must still be where `compare` found them.

    For example:

        vq-eval report --comparison comparison -o report
        vq-eval report --comparison comparison --trajectory drift --layers layers-int8 --layers layers-fp8 -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_eval.report.build import make_report

    set_up_logging(options.verbose)
    meter = Meter()
    made = make_report(
        required(options.comparison, "--comparison"),
        required(options.output, "--output"),
        trajectory=options.trajectory,
        layers=options.layers or (),
        artifacts=options.artifacts or (),
        lossless_frames=options.lossless_frames,
    )
    report("Report", made.rows() | meter.usage().rows(), result=made.to_json(), as_json=options.as_json)
