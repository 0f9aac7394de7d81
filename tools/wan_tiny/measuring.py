"""Built-in models calibrated, quantized in several ways, sampled, compared and graded.

The models run side by side, each in its own process with a share of the cores, because videos this small do not keep
two cores busy. Full precision is sampled once for each model and compared with every candidate.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from candidates import Candidate, Candidates, named, write_prompts
from road import Road

FULL = "full precision"


@dataclass(frozen=True)
class Task:
    """One model's road."""

    model: str
    candidates: tuple[Candidate, ...]
    folder: Path
    prompts: Path
    calibration: Path
    steps: int


@dataclass(frozen=True)
class Measured:
    """The results by candidate.

    Attributes:
        compared: JSON of the rows of `vq-eval compare`; full precision, with which they are compared, has none.
        graded: JSON of `vq-wan-tiny grade`.
        decided: JSON of `vq-algos show`, by component and linear.
        videos: folders.
    """

    compared: dict[str, Any]
    graded: dict[str, Any]
    decided: dict[str, Any]
    videos: dict[str, Path]


class Prefixed(io.TextIOBase):
    """Lines of several processes on one stream, each behind a name; no terminal, so that no progress bars are drawn."""

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
    folder, sampling = task.folder, ("--steps", task.steps)
    calibration = ("--prompts", task.calibration, *sampling)
    road.run("vq-calib collect", "--model", task.model, *calibration, "-o", folder / "stats")
    candidates = Candidates(road, task.model, folder)
    candidates.render("full", task.prompts, task.steps, folder / "videos")
    decided, quantized = {}, {}
    for candidate in task.candidates:
        made = candidates.make(candidate, task.prompts, task.steps)
        decided[candidate.name] = road.run("vq-algos show", made.qparams)["decisions"]
        quantized[candidate.name] = made.videos
    videos = {FULL: folder / "videos" / "full"} | quantized
    sides = ("--reference", videos[FULL], *named(quantized), "--prompts", task.prompts)
    report = road.run("vq-eval compare", *sides, "-o", folder / "report")
    compared = {row["name"]: row for row in report["rows"]}
    graded = {name: road.run("vq-wan-tiny grade", path, "--prompts", task.prompts) for name, path in videos.items()}
    return Measured(compared, graded, decided, videos)


def measure_models(
    models: Sequence[str], candidates: tuple[Candidate, ...], folder: Path, count: int, steps: int
) -> dict[str, Measured]:
    """All at once, on `count` held-out prompts; threads are shared out before torch is loaded.

    `folder` is made anew, for all intermediate files.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_prompts(Road(Console(soft_wrap=True)), folder, count)
    tasks = [
        Task(model, candidates, folder / f"model-{number}", folder / "prompts", folder / "calibration", steps)
        for number, model in enumerate(models)
    ]
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(tasks)))
    with ProcessPoolExecutor(len(tasks), mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(models, pool.map(measure, tasks), strict=True))
