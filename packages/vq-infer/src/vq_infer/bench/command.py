"""From the options of the command to a run and its files."""

import json
from typing import Any

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.artifacts.converted import open_converted
from vq_core.errors import VqError
from vq_core.numerics.scheme import MIX
from vq_core.remote.transfer import local_copy, local_output
from vq_core.runtime.device import resolve_device
from vq_infer.bench.models.contenders import CONTENDERS, contender_named
from vq_infer.bench.models.workload import Workload
from vq_infer.bench.options import BenchOptions
from vq_infer.bench.report.chart import draw, require_matplotlib
from vq_infer.bench.report.page import page
from vq_infer.bench.report.results import Results
from vq_infer.bench.run import Plan, run
from vq_infer.bench.worker import cut
from vq_infer.memory.model_sizes import MODEL_SIZES

DEFAULT_SIZE = "14b"
JSON, PAGE, CHART, UNFINISHED = "bench.json", "bench.md", "bench.png", "unfinished.json"


def bench(options: BenchOptions) -> Results:
    """Measure what `options` ask for, and write the results to their output.

    Raises:
        VqError: an option names something unknown or missing, something does not fit, or nothing can run.
    """
    plan = plan_of(options)
    if options.output is None:
        *_, results = run(plan)
        return results
    if options.chart:
        require_matplotlib()
    with local_output(options.output, last=JSON) as folder:
        folder.mkdir(parents=True)
        for results in run(plan):
            (folder / UNFINISHED).write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
        if options.chart:
            draw(results, folder / CHART)
        (folder / PAGE).write_text(page(results, CHART if options.chart else None), encoding="utf-8")
        (folder / UNFINISHED).rename(folder / JSON)
    return results


def plan_of(options: BenchOptions) -> Plan:
    """What to run.

    Raises:
        VqError: an option names something unknown, or options contradict each other.
    """
    location = None if options.checkpoint is None else local_copy(options.checkpoint)
    checkpoint = None if location is None else open_converted(location)
    if checkpoint is not None and MIX in checkpoint.scheme:
        raise VqError(f"{options.checkpoint} is {checkpoint.scheme}, and one scheme is measured: export it in one.")
    workload = workload_of(options, checkpoint)
    if options.extrapolate and workload.blocks in (1, workload.whole):
        raise VqError(f"--extrapolate needs --blocks between 2 and {workload.whole - 1}: say how many to measure.")
    contenders = tuple(options.contenders or CONTENDERS)
    for name in contenders:
        contender_named(name)
    return Plan(
        contenders=contenders,
        workload=workload,
        device=resolve_device(options.device),
        checkpoint=None if location is None else (location, options.component),
        scheme=None if checkpoint is None else checkpoint.scheme,
        seconds=options.seconds,
        start_limit=options.start_limit,
        extrapolate=options.extrapolate,
        details=options.details,
    )


def workload_of(options: BenchOptions, checkpoint: ConvertedCheckpoint | None) -> Workload:
    """The model's shape and the video's size.

    Raises:
        VqError: an option is not possible for the model.
    """
    config: dict[str, Any]
    if checkpoint is not None:
        if options.model_size is not None:
            raise VqError("--model-size is for random weights: leave it out, the checkpoint has a size.")
        if options.component not in checkpoint.components:
            raise VqError(
                f"{options.checkpoint} has no {options.component} (it has {', '.join(checkpoint.components)}): "
                "choose another --component."
            )
        size, config = str(options.checkpoint), dict(checkpoint.components[options.component].config)
    else:
        size = options.model_size or DEFAULT_SIZE
        if size not in MODEL_SIZES:
            raise VqError(f"`{size}` is not a --model-size ({', '.join(MODEL_SIZES)}): choose one of those.")
        config = dict(MODEL_SIZES[size])
    whole = int(config["num_layers"])
    workload = Workload(size, config, whole, options.height, options.width, options.num_frames)
    workload.check()
    if options.blocks is None:
        return workload
    if not 1 <= options.blocks <= whole:
        raise VqError(f"--blocks {options.blocks} is not possible: give a number from 1 to {whole}.")
    return cut(workload, options.blocks)
