"""A run with its workers in this process."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vq_core.errors import VqError
from vq_infer.bench import run as module
from vq_infer.bench.report.results import Results
from vq_infer.bench.run import Plan, groups, needed_bytes, run
from vq_infer.bench.worker import Failure, Job, Worker, cut

MakePlan = Callable[..., Plan]


class LocalWorker:
    """A `RemoteWorker` without a process; `script` may answer in its place."""

    script: dict[tuple[str, str], Failure] = {}  # noqa: RUF012
    asked: list[tuple[str, str]] = []  # noqa: RUF012

    def __init__(self, job: Job) -> None:
        self._name = job.contender
        self._worker = Worker(job)

    def ask(self, limit: float, command: str, *arguments: Any) -> Any:
        self.asked.append((self._name, command))
        if answer := self.script.get((self._name, command)):
            return answer
        if command == "ceilings":
            arguments = (0.001,)
        return getattr(self._worker, command)(*arguments)

    def __enter__(self) -> "LocalWorker":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> type[LocalWorker]:
    monkeypatch.setattr(module, "RemoteWorker", LocalWorker)
    monkeypatch.setattr(LocalWorker, "script", {})
    monkeypatch.setattr(LocalWorker, "asked", [])
    monkeypatch.setattr("vq_infer.bench.measuring.ceilings.COPY_BYTES", {"cpu": 1 << 16})
    return LocalWorker


def measured(plan: Plan) -> Results:
    *_, results = run(plan)
    return results


def test_contenders_in_turns(plan: MakePlan, local: type[LocalWorker]) -> None:
    eager, ours = measured(plan("diffusers_eager", "vq_int8", details=True)).rows
    assert eager.error == 0
    assert 0 < (ours.error or 0) < 0.05
    assert eager.restart_seconds is None
    assert ours.restart_seconds is not None
    assert ours.lines
    assert ours.step_seconds == ours.steady.median  # type: ignore[union-attr]
    turns = [name for name, command in local.asked if command == "steady"]
    assert turns == ["diffusers_eager", "vq_int8"] * module.ROUNDS


def test_one_that_cannot_run_here_is_named(plan: MakePlan) -> None:
    eager, compiled = measured(plan("diffusers_eager", "diffusers_compiled")).rows
    assert eager.why_not is None
    assert (compiled.why_not, compiled.step_seconds) == ("it is measured on CUDA only", None)


def test_one_that_does_not_finish_is_not_waited_for(plan: MakePlan, local: type[LocalWorker]) -> None:
    local.script["vq_int8", "first"] = Failure("not finished after 60 s")
    eager, ours = measured(plan("diffusers_eager", "vq_int8")).rows
    assert eager.step_seconds is not None
    assert (ours.why_not, ours.first, ours.step_seconds) == ("not finished after 60 s", None, None)
    assert ("vq_int8", "steady") not in local.asked


@pytest.mark.parametrize("command", ["steady", "shares", "one_block"])
def test_one_that_fails_later(plan: MakePlan, local: type[LocalWorker], command: str) -> None:
    local.script["diffusers_eager", command] = Failure("RuntimeError: out of memory")
    workload = cut(plan("x").workload, 2)
    (row,) = measured(plan("diffusers_eager", details=True, extrapolate=True, workload=workload)).rows
    assert "out of memory" in str(row.why_not)
    assert row.first is not None


def test_extrapolates_when_asked(plan: MakePlan) -> None:
    workload = cut(plan("x").workload, 2)
    (row,) = measured(plan("diffusers_eager", workload=workload, extrapolate=True)).rows
    assert row.one_block is not None
    assert row.steady is not None
    assert row.step_seconds == pytest.approx(row.steady.median)  # two of two blocks


def test_checkpoint_of_another_scheme(plan: MakePlan, tmp_path: Any) -> None:
    checked = plan("vq_fp8", checkpoint=(tmp_path, "transformer"), scheme="int8")
    with pytest.raises(VqError, match="no contender can run here: vq_fp8: the checkpoint is int8"):
        measured(checked)


def test_machine_that_cannot_be_measured(plan: MakePlan, local: type[LocalWorker]) -> None:
    local.script["diffusers_eager", "ceilings"] = Failure("RuntimeError: no kernel image")
    with pytest.raises(VqError, match="the machine could not be measured: RuntimeError: no kernel image"):
        measured(plan("diffusers_eager"))


def test_groups_are_what_fits(plan: MakePlan) -> None:
    names = ["diffusers_eager", "vq_int8", "vq_fp8"]
    needs = [needed_bytes(plan("x").workload, size, torch.device("cpu")) for size in (2, 1, 1)]
    assert needs[0] > needs[1]
    assert groups(names, plan(*names), int(10 * sum(needs))) == [names]
    assert groups(names, plan(*names), int((needs[0] + needs[1]) / 0.9) + 1) == [names[:2], names[2:]]
    assert groups(names, plan(*names), 1) == [[name] for name in names]
