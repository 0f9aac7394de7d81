"""Built-in models down the road: calibrated, quantized in every way that is asked for, sampled, compared and graded.

The models travel side by side, each in a process of its own with its share of the cores, because videos this small do
not fill two. Full precision is sampled once for each model and compared with every candidate.
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

from road import Road

CALIBRATION_PROMPTS, CALIBRATION_SEED = 8, 1
FULL = "full precision"


@dataclass(frozen=True)
class Candidate:
    """How a model is quantized.

    Attributes:
        name: in the tables.
        scheme: int8 or fp8.
        smooth: arguments of `vq-algos smooth`, beside model, statistics and output.
        quantize: of `vq-algos quantize`, beside weights, scheme and output.
        judged: does `quantize` get the statistics, for figures on held-out tokens and what is solved on others?
    """

    name: str
    scheme: str
    smooth: tuple[str, ...]
    quantize: tuple[str, ...] = ()
    judged: bool = False


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
    """What came out, by candidate.

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
    stats = ("--stats", folder / "stats")
    road.run("vq-calib collect", *model, "--prompts", task.calibration, "-o", folder / "stats", *sampling)
    sample = ("vq-eval fake-quant", *model, "--prompts", task.prompts, *sampling)
    road.run(*sample, "--variants", "full", "-o", folder / "videos")
    smoothed: dict[tuple[str, ...], Path] = {}
    videos, decided = {FULL: folder / "videos" / "full"}, {}
    for candidate in task.candidates:
        if candidate.smooth not in smoothed:
            smoothed[candidate.smooth] = folder / f"smoothed-{len(smoothed)}"
            output = ("-o", smoothed[candidate.smooth])
            road.run("vq-algos smooth", *model, *stats, *candidate.smooth, *output)
        weights, stem = smoothed[candidate.smooth], candidate.name.lower().replace(" ", "-")
        qparams, made = folder / f"qparams-{stem}", folder / f"videos-{stem}"
        how = (*candidate.quantize, *(stats if candidate.judged else ()))
        road.run("vq-algos quantize", "--weights", weights, "--scheme", candidate.scheme, *how, "-o", qparams)
        decided[candidate.name] = road.run("vq-algos show", qparams)["decisions"]
        road.run(*sample, "--weights", weights, "--qparams", qparams, "--variants", "fake-quant", "-o", made)
        videos[candidate.name] = made / "fake-quant"
    rows = [part for it in task.candidates for part in ("--candidate", f"{it.name}={videos[it.name]}")]
    sides = ("--reference", videos[FULL], *rows, "--prompts", task.prompts)
    report = road.run("vq-eval compare", *sides, "-o", folder / "report")
    compared = {row["name"]: row for row in report["rows"]}
    graded = {name: road.run("vq-wan-tiny grade", path, "--prompts", task.prompts) for name, path in videos.items()}
    return Measured(compared, graded, decided, videos)


def measure_models(
    models: Sequence[str], candidates: tuple[Candidate, ...], folder: Path, count: int, steps: int
) -> dict[str, Measured]:
    """All at once, on `count` held-out prompts; threads are shared out before torch is loaded.

    `folder` is made anew, for everything that comes up on the way.
    """
    shutil.rmtree(folder, ignore_errors=True)
    road = Road(Console(soft_wrap=True))
    held_out, calibration = folder / "prompts", folder / "calibration"
    road.run("vq-wan-tiny prompts", "-o", held_out, "--count", count, "--held-out")
    others = ("--count", CALIBRATION_PROMPTS, "--seed", CALIBRATION_SEED, "--trained")
    road.run("vq-wan-tiny prompts", "-o", calibration, *others)
    tasks = [
        Task(model, candidates, folder / f"model-{number}", held_out, calibration, steps)
        for number, model in enumerate(models)
    ]
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(tasks)))
    with ProcessPoolExecutor(len(tasks), mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(models, pool.map(measure, tasks), strict=True))
