"""One worker in a process of its own: what it answers, and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from vq_infer.bench import process
from vq_infer.bench.models.workload import Workload
from vq_infer.bench.process import RemoteWorker
from vq_infer.bench.worker import Failure, Job, Machine


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is imported here already."""
    monkeypatch.setattr(process, "START_METHOD", "fork")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_answers_fails_and_is_ended(workload: Workload, tmp_path: Path) -> None:
    with RemoteWorker(Job("nobody", workload, "cpu", tmp_path)) as worker:
        assert isinstance(worker.ask(120, "machine"), Machine)
        failure = worker.ask(60, "first")
        assert isinstance(failure, Failure)
        assert "`nobody` is not one of the contenders" in failure.reason
        assert worker.ask(0.01, "ceilings", 60.0).reason.startswith("not finished after")
        assert not worker._process.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_process_that_dies(workload: Workload, tmp_path: Path) -> None:
    with RemoteWorker(Job("diffusers_eager", workload, "cpu", tmp_path)) as worker:
        answer = worker.ask(120, "steady", 1.0)  # before there is a model: a mistake of ours, with its traceback
        assert answer == Failure("its process ended with exit code 1")


def test_nothing_that_is_preloaded_asks_for_cuda() -> None:
    program = (
        "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; "
        "print(*(name for name in ('diffusers', 'transformers', 'accelerate') if name in sys.modules))"
    )
    command = [sys.executable, "-c", program, *process.PRELOADED]
    found = subprocess.run(command, capture_output=True, check=True, text=True)
    assert found.stdout.strip() == ""
