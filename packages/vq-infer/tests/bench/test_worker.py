"""A worker's commands, in this process."""

import os
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from vq_infer.bench import worker as module
from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.models.workload import Workload
from vq_infer.bench.worker import CACHES, Failure, Job, Memory, Worker, cut, serve


def test_measures(workload: Workload, tmp_path: Path) -> None:
    worker = Worker(Job("diffusers_eager", cut(workload, 2), "cpu", tmp_path))
    first = worker.first()
    assert first.prediction.shape == (1, 16, 1, 8, 8)
    assert first.prediction.dtype == np.float32
    assert first.seconds > 0
    assert len(worker.steady(0.001).seconds) >= 2
    assert worker.memory() == Memory(0, 0)
    assert Kind.LINEAR_FFN in worker.shares()
    assert len(worker._model.blocks) == 2  # type: ignore[arg-type]
    worker.one_block(0.001)
    assert len(worker._model.blocks) == 1  # type: ignore[arg-type]


def test_serves_commands_until_none(workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Obedient:
        def __init__(self, job: Job) -> None:
            self.job = job

        def add(self, a: int, b: int) -> int:
            return a + b

        def fail(self) -> None:
            raise RuntimeError("no kernel image\nand more")

    monkeypatch.setattr(module, "Worker", Obedient)
    monkeypatch.setattr(os, "setsid", lambda: None)
    for variable in CACHES:
        monkeypatch.setenv(variable, "elsewhere")
    own, other = Pipe()
    thread = Thread(target=serve, args=(other, Job("x", workload, "cpu", tmp_path)))
    thread.start()
    own.send(("add", (1, 2)))
    assert own.recv() == 3
    own.send(("fail", ()))
    assert own.recv() == Failure("RuntimeError: no kernel image")
    own.send(None)
    thread.join(10)
    assert not thread.is_alive()
    assert {os.environ[variable] for variable in CACHES} == {str(tmp_path / variable.lower()) for variable in CACHES}


def test_machine(workload: Workload, tmp_path: Path) -> None:
    found = Worker(Job("diffusers_eager", workload, "cpu", tmp_path)).machine()
    assert found.versions["torch"] == torch.__version__
    assert found.memory > 2**28
