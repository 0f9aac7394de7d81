"""`vq-infer batch`: the videos of a whole set of prompts."""

from vq_core.cli.app import report, set_up_logging
from vq_core.cli.command import takes_options
from vq_infer.options import BatchOptions


@takes_options(BatchOptions)
def batch(options: BatchOptions) -> None:
    """Render every prompt of a set with the native engine, to compare with videos of the model itself.

    They are written as `vq-eval fake-quant` writes its own: prompt i has seed + i, `native/000.mp4` is to look at and
    the lossless `native/000.mkv` to measure.

    With torchrun, processes share the prompts out: `torchrun --nproc-per-node 8 -m vq_infer batch …`

    For example:

        vq-infer batch --model MODEL --checkpoint ckpt --prompts builtin:evaluation -o engine

        vq-eval compare --reference reference/full --candidate engine/native -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process
    from vq_infer.engine.batch import make_batch, resolve_batch

    set_up_logging(options.verbose)
    meter = Meter()
    made = make_batch(resolve_batch(options), resume=options.resume, process=this_process())
    if made is None:  # another process reports
        return
    report(
        "Videos of the native engine",
        {**made.rows(), **meter.usage().rows()},
        result={**made.to_json(), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=f"vq-eval compare --reference REFERENCE/full --candidate {made.folder} -o report",
    )
