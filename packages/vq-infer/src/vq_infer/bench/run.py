"""A whole run: every contender is made, warmed and measured, in turns with the others that fit into memory with it."""

import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from math import prod
from pathlib import Path

import torch

from vq_core.errors import VqError
from vq_core.families import wan
from vq_core.remote.location import Location
from vq_core.runtime.device import runtime_dtype
from vq_infer.bench.measuring.breakdown import breakdown
from vq_infer.bench.measuring.ceilings import SECONDS, Ceilings
from vq_infer.bench.measuring.measure import Steady
from vq_infer.bench.models.contenders import REFERENCE, contender_named
from vq_infer.bench.models.workload import Workload
from vq_infer.bench.process import RemoteWorker
from vq_infer.bench.report.results import Results, Row, extrapolate, relative_error
from vq_infer.bench.worker import Failure, First, Job, Machine

ROUNDS = 3
MEMORY_USED = 0.9  # share of the device's memory for contenders that are measured in turns
CONTEXT_BYTES = 1 << 30  # taken on the device by each process
LIMIT_FACTOR = 20  # a measurement that takes so many times its time hangs


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        contenders: names, in the order of the table.
        workload: cut to the blocks that are measured.
        device: `cuda`, `cuda:1`, `cpu` …
        checkpoint: a converted checkpoint and one of its components, for our contenders of its scheme.
        scheme: of that checkpoint.
        seconds: steady load for each contender.
        start_limit: most seconds of a first step, compilation included.
        extrapolate: whether to go from the measured blocks to the whole model.
        details: whether to break the time of a pass down by kinds of work.
    """

    contenders: tuple[str, ...]
    workload: Workload
    device: str
    checkpoint: tuple[Location, str] | None
    scheme: str | None
    seconds: float
    start_limit: float
    extrapolate: bool
    details: bool

    def job(self, name: str, cache: Path) -> Job:
        """For a worker."""
        return Job(name, self.workload, self.device, cache, self.checkpoint)


def run(plan: Plan) -> Iterator[Results]:
    """Measure; yields what there is after every group of contenders, the last time everything.

    Raises:
        VqError: the machine's ceilings could not be measured, or no contender can run.
    """
    rows = {name: _row(plan, name) for name in plan.contenders}
    able = [name for name, row in rows.items() if row.why_not is None]
    if not able:
        raise VqError(f"no contender can run here: {'; '.join(f'{n}: {row.why_not}' for n, row in rows.items())}.")
    with tempfile.TemporaryDirectory() as folder:
        _tell("measuring what the machine can do at best")
        machine, ceilings = _machine(plan, Path(folder))
        results = Results(
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            command=shlex.join(["vq-infer", *sys.argv[1:]]),
            machine=machine,
            workload=plan.workload,
            checkpoint=str(plan.checkpoint[0]) if plan.checkpoint else None,
            extrapolated=plan.extrapolate,
            ceilings=ceilings,
        )
        for group in groups(able, plan, machine.memory):
            rows |= _measure_group([rows[name] for name in group], plan, ceilings, Path(folder))
            results = replace(results, rows=tuple(_with_error(row, rows, plan) for row in rows.values()))
            yield results


def groups(names: Sequence[str], plan: Plan, memory: int) -> list[list[str]]:
    """`names` in groups that fit into `memory` bytes together, in their order."""
    gathered: list[list[str]] = []
    used = 0.0
    for name in names:
        need = needed_bytes(plan.workload, contender_named(name).loaded_bytes, torch.device(plan.device))
        if not gathered or used + need > MEMORY_USED * memory:
            gathered.append([])
            used = 0.0
        gathered[-1].append(name)
        used += need
    return gathered


def needed_bytes(workload: Workload, weight_bytes: int, device: torch.device) -> float:
    """Estimate for one contender: its weights while it is made, and the widest values alive in a block."""
    value = runtime_dtype(device).itemsize
    weights = sum(prod(shape) for shape in wan.topology(workload.config).tensors.values())
    widest = workload.tokens * (3 * int(workload.config["ffn_dim"]) + 16 * workload.dim) * value
    scale = value / 2  # `loaded_bytes` is for bfloat16
    return weights * weight_bytes * scale + widest + CONTEXT_BYTES


def _row(plan: Plan, name: str) -> Row:
    contender = contender_named(name)
    row = Row(name, contender.title, contender.linears, contender.attention)
    reason = contender.missing(torch.device(plan.device))
    if reason is None and contender.ours and plan.scheme not in (None, contender.linears):
        reason = f"the checkpoint is {plan.scheme}"
    return replace(row, why_not=reason)


def _machine(plan: Plan, folder: Path) -> tuple[Machine, Ceilings]:
    with RemoteWorker(plan.job(REFERENCE, folder)) as worker:
        answers = [worker.ask(plan.start_limit, "machine"), worker.ask(plan.start_limit, "ceilings", SECONDS)]
    for answer in answers:
        if isinstance(answer, Failure):
            raise VqError(f"the machine could not be measured: {answer.reason}.")
    return answers[0], answers[1]


def _measure_group(rows: Sequence[Row], plan: Plan, ceilings: Ceilings, folder: Path) -> dict[str, Row]:
    found: dict[str, Row] = {}
    with ExitStack() as stack:
        workers: dict[str, RemoteWorker] = {}
        for row in rows:
            _tell(f"{row.title}: first step")
            worker = stack.enter_context(RemoteWorker(plan.job(row.name, folder / row.name)))
            first: First | Failure = worker.ask(plan.start_limit, "first")
            if isinstance(first, Failure):
                found[row.name] = replace(row, why_not=first.reason)
            else:
                found[row.name] = replace(row, first=first)
                workers[row.name] = worker
        rounds: dict[str, list[Steady]] = {name: [] for name in workers}
        for index in range(ROUNDS):
            for name, worker in list(workers.items()):
                _tell(f"{found[name].title}: round {index + 1} of {ROUNDS}")
                answer = worker.ask(_limit(plan, found[name]), "steady", plan.seconds / ROUNDS)
                if isinstance(answer, Failure):
                    found[name] = replace(found[name], why_not=answer.reason)
                    del workers[name]
                else:
                    rounds[name].append(answer)
        for name, worker in workers.items():
            steady = reduce(Steady.then, rounds[name])
            row = replace(found[name], steady=steady, step_seconds=steady.median)
            found[name] = _looked_into(row, worker, plan, ceilings)
    return {name: _restarted(row, plan, folder) for name, row in found.items()}


def _looked_into(row: Row, worker: RemoteWorker, plan: Plan, ceilings: Ceilings) -> Row:
    """Add memory, the breakdown, and the step of the whole model."""
    limit = _limit(plan, row)
    row = replace(row, memory=worker.ask(limit, "memory"))
    if plan.details:
        _tell(f"{row.title}: where the time goes")
        answer = worker.ask(limit, "shares")
        if isinstance(answer, Failure):
            return replace(row, why_not=f"no breakdown: {answer.reason}")
        value_bytes = runtime_dtype(torch.device(plan.device)).itemsize
        lines = breakdown(answer, plan.workload, ceilings, row.linears, row.attention, value_bytes)
        row = replace(row, lines=tuple(lines))
    if plan.extrapolate and row.step_seconds is not None:
        _tell(f"{row.title}: one block")
        answer = worker.ask(limit, "one_block", plan.seconds)
        if isinstance(answer, Failure):
            return replace(row, step_seconds=None, why_not=f"no extrapolation: {answer.reason}")
        workload = plan.workload
        seconds = extrapolate(answer.median, row.step_seconds, workload.blocks, workload.whole)
        row = replace(row, one_block=answer, step_seconds=seconds)
    return row


def _restarted(row: Row, plan: Plan, folder: Path) -> Row:
    """Add the first step of a second process, if the contender has caches that make it faster."""
    if row.steady is None or not contender_named(row.name).compiles:
        return row
    _tell(f"{row.title}: first step again, in a new process with the caches of the last")
    with RemoteWorker(plan.job(row.name, folder / row.name)) as worker:
        answer = worker.ask(plan.start_limit, "first")
    return row if isinstance(answer, Failure) else replace(row, restart_seconds=answer.seconds)


def _limit(plan: Plan, row: Row) -> float:
    """Time limit for a measurement, in seconds: only something that hangs takes so long."""
    return plan.start_limit + LIMIT_FACTOR * (plan.seconds + (row.first.seconds if row.first else 0.0))


def _with_error(row: Row, rows: Mapping[str, Row], plan: Plan) -> Row:
    """Add the error against the reference, if both have been measured with the same weights."""
    reference = rows.get(REFERENCE)
    if row.first is None or reference is None or reference.first is None or plan.checkpoint is not None:
        return row
    return replace(row, error=relative_error(row.first.prediction, reference.first.prediction))


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
