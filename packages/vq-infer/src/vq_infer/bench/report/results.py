"""The results of a run: everything that tables, pictures and JSON show."""

import dataclasses
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vq_infer.bench.measuring.breakdown import Line
from vq_infer.bench.measuring.ceilings import Ceilings
from vq_infer.bench.measuring.measure import Steady
from vq_infer.bench.models.contenders import REFERENCE
from vq_infer.bench.models.workload import Workload
from vq_infer.bench.worker import First, Machine, Memory

RATIOS_TO = (REFERENCE, "torchao_fp8")
"""The contenders with which the others of a run are compared."""


@dataclass(frozen=True)
class Row:
    """One contender.

    Attributes:
        name, title, linears, attention: see `Contender`.
        why_not: why figures are missing; None if none is.
        first: first step, with empty caches.
        restart_seconds: first step of a second process, which finds the caches of the first.
        steady: steps under steady load.
        one_block: the same with one block, if a step of the whole model is extrapolated.
        step_seconds: median of a step: of the whole model if all its blocks are measured or it is extrapolated, else of
            the measured blocks.
        memory: peak during the steps.
        error: ‖y − y_ref‖ / ‖y_ref‖ of a step's prediction against the reference contender's.
        lines: the time of one pass by kind of work.
    """

    name: str
    title: str
    linears: str
    attention: str
    why_not: str | None = None
    first: First | None = None
    restart_seconds: float | None = None
    steady: Steady | None = None
    one_block: Steady | None = None
    step_seconds: float | None = None
    memory: Memory | None = None
    error: float | None = None
    lines: tuple[Line, ...] = ()

    def median_of(self, samples: str) -> float | None:
        """Median of `watts`, `megahertz` or `celsius` under steady load."""
        values = getattr(self.steady, samples) if self.steady else ()
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Results:
    """One run on one machine."""

    date: str
    command: str
    machine: Machine
    workload: Workload
    checkpoint: str | None
    extrapolated: bool
    ceilings: Ceilings
    rows: tuple[Row, ...] = field(default=())

    def row(self, name: str) -> Row | None:
        """The contender called `name`, if it took part."""
        return next((row for row in self.rows if row.name == name), None)

    def ratio(self, row: Row, base_name: str) -> float | None:
        """Speed relative to another contender of this run; None if either is not measured."""
        base = self.row(base_name)
        if base is None or base.step_seconds is None or row.step_seconds is None:
            return None
        return base.step_seconds / row.step_seconds

    def to_json(self) -> dict[str, Any]:
        """The results as JSON: seconds, bytes, operations per second."""
        content = dataclasses.asdict(self)
        for plain, row in zip(content["rows"], self.rows, strict=True):
            if plain["first"] is not None:
                del plain["first"]["prediction"]
            plain["ratios"] = {name: self.ratio(row, name) for name in RATIOS_TO}
        content["workload"] |= {"tokens": self.workload.tokens, "latent": self.workload.latent_shape}
        return content


def relative_error(prediction: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """‖a − b‖ / ‖b‖ in fp64."""
    difference = prediction.astype(np.float64) - reference
    return float(np.linalg.norm(difference) / np.linalg.norm(reference.astype(np.float64)))


def extrapolate(one: float, many: float, blocks: int, whole: int) -> float:
    """Seconds of `whole` blocks from those of one and of `blocks`; every further block takes the same time."""
    return one + (whole - 1) * (many - one) / (blocks - 1)
