"""`vq-infer bench`."""

from vq_core.cli.app import report, set_up_logging
from vq_core.cli.command import takes_options
from vq_infer.bench.options import BenchOptions


@takes_options(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure every way to run the model on this machine: seconds a step, first step, memory, and where the time goes.

    Without a checkpoint the weights are random, made on the device, and the same for every contender.

    For example:

        vq-infer bench -o bench

        vq-infer bench --height 720 --width 1280 --contender diffusers_eager --contender vq_fp8 -o bench720
    """
    from vq_infer.bench.command import bench as run
    from vq_infer.bench.report.page import summary, title

    set_up_logging(options.verbose)
    results = run(options)
    report(title(results), summary(results), result=results.to_json(), as_json=options.as_json)
