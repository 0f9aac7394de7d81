"""Conversion of a Wan2.1-1.3B-shaped random checkpoint beside `cp`, the arithmetic alone and the plain way.

Each run has a process of its own; memory is that process's peak above one that has only imported the same modules.
The works take turns, so that a busy minute hits all alike. Exits with 1 if a requirement is missed.
"""

import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import safetensors
import torch
import typer

from bench.export.report import Line, Run, demands, write
from bench.export.work import (
    Work,
    arithmetic,
    convert,
    convert_plainly,
    copy,
    copy_to_disk,
    digest,
    nothing,
    read,
    write_and_flush,
)
from bench.random_model import write_model
from pages import enforce, today, typed
from vq_core.numerics.scheme import W8A8
from vq_core.runtime.meter import host_peak_bytes
from vq_infer.memory.model_sizes import MODEL_SIZES

CONFIG = MODEL_SIZES["1.3b"]
BLOCKS = CONFIG["num_layers"]
CASES: tuple[tuple[Work, str], ...] = (
    (copy, ""),
    (copy_to_disk, ""),
    (read, ""),
    (digest, ""),
    (write_and_flush, ""),
    *((work, scheme) for scheme in (it.name for it in W8A8) for work in (arithmetic, convert, convert_plainly)),
)


def measure(work: Work, model: Path, output: Path, scheme: str) -> tuple[float, float, int]:
    """Seconds, CPU seconds and peak bytes of `work` in a fresh process, begun with nothing left to write back."""
    os.sync()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(work, model, output, scheme, sender))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{work.__name__} failed")
    shutil.rmtree(output, ignore_errors=True)
    result: tuple[float, float, int] = receiver.recv()
    return result


def _measured(work: Work, model: Path, output: Path, scheme: str, pipe: Any) -> None:
    timed = work(model, output, scheme)
    start, used_before = time.monotonic(), sum(os.times()[:4])
    timed()
    seconds, used = time.monotonic() - start, sum(os.times()[:4]) - used_before
    pipe.send((seconds, used, host_peak_bytes()))


def main(
    layers: Annotated[int, typer.Option(min=1, help="Blocks; 30 is Wan2.1-1.3B.")] = BLOCKS,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each; the median is shown.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to write the models; needs about 6 GB.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("docs"),
) -> None:
    """Measure, write the page, and check the figures against the requirements."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model, copied = Path(temporary) / "model", Path(temporary) / "output"
        write_model(model, {**CONFIG, "num_layers": layers})
        size = sum(path.stat().st_size for path in model.iterdir())
        _, _, imports = measure(nothing, model, copied, "")
        rounds = [[measure(work, model, copied, scheme) for work, scheme in CASES] for _ in range(repeats)]
    lines = [
        Line(
            work.__name__,
            scheme,
            statistics.median(seconds for seconds, _, _ in runs),
            [round(seconds, 2) for seconds, _, _ in runs],
            min(used for _, used, _ in runs),
            max(0, max(peak for _, _, peak in runs) - imports),
        )
        for (work, scheme), runs in zip(CASES, zip(*rounds, strict=True), strict=True)
    ]
    run = Run(
        command=typed("tools/bench/export/measure.py", "bench-export"),
        date=today(),
        torch=torch.__version__,
        safetensors=safetensors.__version__,
        cores=os.cpu_count() or 1,
        load=round(load, 1),
        bytes=size,
        blocks=layers,
        of_blocks=BLOCKS,
        repeats=repeats,
    )
    judged = demands(run, lines)
    print(f"Wrote {write(output, run, lines, judged)}")
    enforce(judged)


if __name__ == "__main__":
    typer.run(main)
