"""What quantization costs wan-tiny and its hard twin: fidelity and grades of every candidate, in one run.

Both models travel the road side by side, each in a process of its own with half of the cores, because videos this
small do not fill two. Full precision is sampled once for each model and compared with every candidate.
"""

import contextlib
import io
import multiprocessing
import os
import shlex
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from road import Road
from strip import Row, draw_strip, psnr_of, row_text
from wan_tiny.table_report import STRIP, Line, Run, line_of, write

CALIBRATION_PROMPTS, CALIBRATION_SEED = 8, 1
FULL = "full precision"
SHOWN = 0  # the prompt of the picture


@dataclass(frozen=True)
class Candidate:
    """How a model is quantized."""

    smoothed: bool
    scheme: str

    @property
    def name(self) -> str:
        """Such as `INT8 SmoothQuant`."""
        return f"{self.scheme.upper()} {'SmoothQuant' if self.smoothed else 'RTN'}"


CANDIDATES = [Candidate(smoothed, scheme) for scheme in ("int8", "fp8") for smoothed in (False, True)]
PICTURED = ("INT8 RTN", "INT8 SmoothQuant", "FP8 SmoothQuant")


@dataclass(frozen=True)
class Task:
    """One model's road."""

    model: str
    folder: Path
    prompts: Path
    calibration: Path
    steps: int


@dataclass(frozen=True)
class Measured:
    """What came out, by candidate: JSON of `vq-eval compare` and `vq-wan-tiny grade`, and the folder of videos."""

    compared: dict[str, Any]
    graded: dict[str, Any]
    videos: dict[str, Path]


class Prefixed(io.TextIOBase):
    """Lines of several processes on one stream, each with the name of its own; no terminal, so that no bars fight."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._rest = stream, name, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._stream.write(f"{self._name}: {line}\n")
        self._stream.flush()
        return len(text)


def measure(task: Task) -> Measured:
    """Take one model down the road, with every candidate."""
    with contextlib.redirect_stderr(Prefixed(sys.stderr, task.model)):
        return _measure(task)


def _measure(task: Task) -> Measured:
    road = Road(Console(soft_wrap=True), f"{task.model}: ")
    model, folder, sampling = ("--model", task.model), task.folder, ("--steps", task.steps)
    road.run("vq-calib collect", *model, "--prompts", task.calibration, "-o", folder / "stats", *sampling)
    road.run("vq-algos smooth", *model, "--method", "none", "-o", folder / "plain")
    road.run("vq-algos smooth", *model, "--stats", folder / "stats", "--groups", "all", "-o", folder / "smoothed")
    sample = ("vq-eval fake-quant", *model, "--prompts", task.prompts, *sampling)
    road.run(*sample, "--variants", "full", "-o", folder / "videos")
    videos, compared = {FULL: folder / "videos" / "full"}, {}
    for candidate in CANDIDATES:
        weights = folder / ("smoothed" if candidate.smoothed else "plain")
        stem = candidate.name.lower().replace(" ", "-")
        qparams, made = folder / f"qparams-{stem}", folder / f"videos-{stem}"
        road.run("vq-algos quantize", "--weights", weights, "--scheme", candidate.scheme, "-o", qparams)
        road.run(*sample, "--weights", weights, "--qparams", qparams, "--variants", "fake-quant", "-o", made)
        videos[candidate.name] = made / "fake-quant"
        pair = ("--reference", videos[FULL], "--candidate", videos[candidate.name])
        compared[candidate.name] = road.run("vq-eval compare", *pair, "-o", folder / f"report-{stem}")
    graded = {name: road.run("vq-wan-tiny grade", path, "--prompts", task.prompts) for name, path in videos.items()}
    return Measured(compared, graded, videos)


def measure_all(tasks: list[Task]) -> list[Measured]:
    """Both at once; threads are shared out before torch is loaded."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(tasks)))
    with ProcessPoolExecutor(len(tasks), mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(measure, tasks))


def lines_of(model: str, measured: Measured) -> list[Line]:
    """The model's lines of the table."""
    return [line_of(model, name, measured.compared.get(name), graded) for name, graded in measured.graded.items()]


def draw(path: Path, measured: Measured) -> None:
    """The picture of one prompt."""
    from vq_core.video import read_video

    rows = []
    for name in (FULL, *PICTURED):
        graded = measured.graded[name]["videos"][SHOWN]
        psnr = psnr_of(measured.compared[name], SHOWN) if name in measured.compared else None
        rows.append(Row(row_text(name, psnr, graded), read_video(measured.videos[name] / f"{SHOWN:03d}.mkv")))
    draw_strip(path, measured.graded[FULL]["videos"][SHOWN]["prompt"], rows)


def main(
    easy: Annotated[str, typer.Option(help="The model.")] = "wan-tiny",
    hard: Annotated[str, typer.Option(help="Its hard twin.")] = "wan-tiny-hard",
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 16,
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = Path("docs"),
    folder: Annotated[Path, typer.Option(help="Folder of everything else, made anew.")] = Path("build/table"),
) -> None:
    """Measure every candidate and write the table."""
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    road = Road(Console(soft_wrap=True))
    held_out, calibration = folder / "prompts", folder / "calibration"
    road.run("vq-wan-tiny prompts", "-o", held_out, "--count", count, "--held-out")
    others = ("--count", CALIBRATION_PROMPTS, "--seed", CALIBRATION_SEED, "--trained")
    road.run("vq-wan-tiny prompts", "-o", calibration, *others)
    models = {"easy": easy, "hard": hard}
    tasks = [Task(model, folder / name, held_out, calibration, steps) for name, model in models.items()]
    results = measure_all(tasks)

    import torch

    shown = results[1].graded[FULL]["videos"][SHOWN]["prompt"]
    run = Run(
        command=shlex.join(["python", "tools/wan_tiny/table.py", *sys.argv[1:]]) if sys.argv[1:] else "make table",
        date=datetime.now(UTC).date().isoformat(),
        steps=steps,
        prompts=count,
        calibration_prompts=CALIBRATION_PROMPTS,
        torch=torch.__version__,
        device=f"{torch.cuda.get_device_name() if torch.cuda.is_available() else f'{os.cpu_count()} CPU cores'}",
        seconds=round(time.monotonic() - start),
        shown_prompt=shown,
    )
    lines = [line for task, result in zip(tasks, results, strict=True) for line in lines_of(task.model, result)]
    draw(output / STRIP, results[1])
    print(f"Wrote {write(output, run, lines)} and {output / STRIP} in {run.seconds} s")


if __name__ == "__main__":
    typer.run(main)
