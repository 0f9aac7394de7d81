"""One contender in a process of its own, which has its own memory and can be killed if it takes too long."""

import os
import platform
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vq_core.artifacts.converted import open_converted
from vq_core.errors import VqError
from vq_core.model.transformer_reader import CodesReader
from vq_core.remote.location import Location
from vq_core.runtime.device import runtime_dtype
from vq_infer.bench.measuring.breakdown import Share, profile_pass, shares
from vq_infer.bench.measuring.ceilings import Ceilings, measure_ceilings
from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.measuring.measure import Steady, steady
from vq_infer.bench.measuring.ranges import named_ranges
from vq_infer.bench.models.contenders import contender_named
from vq_infer.bench.models.workload import Step, Workload, timesteps
from vq_infer.timing import timed

CHECKED_TIMESTEP = 500.0
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VQ_CACHE")
"""Variables that name the caches of compilers and autotuners; a worker points them into the folder it is given."""


@dataclass(frozen=True)
class Job:
    """What a worker measures, with its caches in the folder `cache`; `checkpoint` is None for random weights."""

    contender: str
    workload: Workload
    device: str
    cache: Path
    checkpoint: tuple[Location, str] | None = None


@dataclass(frozen=True)
class Failure:
    """Why a command has no answer."""

    reason: str


@dataclass(frozen=True)
class First:
    """The first step.

    Attributes:
        seconds: of the step, compilation and tuning included.
        load_seconds: taken to make the model before it.
        prediction: of one further step, fp32, to compare contenders by.
        runs_with: what computes linears and attention.
    """

    seconds: float
    load_seconds: float
    prediction: NDArray[np.float32]
    runs_with: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """Peak bytes on the device during the steps: of tensors, and with what torch keeps for later."""

    allocated: int
    reserved: int


@dataclass(frozen=True)
class Machine:
    """The machine of a run.

    Attributes:
        device: name of the GPU or the processor.
        memory: bytes on the device; for the CPU those of the host.
        versions: of Python, CUDA and the packages that run on it.
    """

    device: str
    memory: int
    versions: dict[str, str]


class Worker:
    """Measures the contender of a job; every public method is a command."""

    _model: nn.Module
    _step: Step

    def __init__(self, job: Job) -> None:
        self._job = job
        self._device = torch.device(job.device)
        self._timesteps = timesteps()

    def first(self) -> First:
        """Make the model and run its first step."""
        contender = contender_named(self._job.contender)
        workload = self._job.workload
        self._step = Step(workload, self._device, runtime_dtype(self._device))

        def make() -> None:
            reader: CodesReader | None = None
            if self._job.checkpoint is not None:
                location, component = self._job.checkpoint
                reader = open_converted(location).components[component]
            self._model = contender.build(workload, self._device, reader)

        load_seconds = timed(make, self._device)
        del cast(Any, self._model).blocks[workload.blocks :]  # a checkpoint may have more than are measured
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        seconds = timed(self._run, self._device)
        prediction = self._step.run(self._model, CHECKED_TIMESTEP).float().cpu().numpy()
        return First(seconds, load_seconds, prediction, contender.runs_with(self._model))

    def steady(self, seconds: float) -> Steady:
        """Steps under steady load."""
        return steady(self._run, self._device, seconds)

    def one_block(self, seconds: float) -> Steady:
        """The same with the first block alone; the model keeps only that one."""
        del cast(Any, self._model).blocks[1:]
        return self.steady(seconds)

    def memory(self) -> Memory:
        """Peak since the model was made."""
        if self._device.type != "cuda":
            return Memory(0, 0)
        return Memory(torch.cuda.max_memory_allocated(self._device), torch.cuda.max_memory_reserved(self._device))

    def shares(self) -> dict[Kind, Share]:
        """Where the time of one pass goes."""
        with named_ranges(self._model):
            self._pass()  # code may be compiled again for the ranges
            return shares(profile_pass(self._pass, self._device), self._job.workload)

    def ceilings(self, seconds: float) -> Ceilings:
        """What the machine can do at best."""
        return measure_ceilings(self._job.workload, self._device, seconds)

    def machine(self) -> Machine:
        """Name and memory of the device, and the versions of what runs on it."""
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        for package in ("triton", "diffusers", "transformers", "torchao", "sageattention", "vq-infer"):
            with suppress(PackageNotFoundError):
                versions[package] = version(package)
        if self._device.type != "cuda":
            host_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            return Machine(platform.processor() or platform.machine(), host_bytes, versions)
        versions |= {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
        properties = torch.cuda.get_device_properties(self._device)
        return Machine(properties.name, properties.total_memory, versions)

    def _run(self) -> object:
        return self._step.run(self._model, next(self._timesteps))

    def _pass(self) -> object:
        return self._step.forward(self._model, "cond", CHECKED_TIMESTEP)


def serve(connection: Connection, job: Job) -> None:
    """Answer commands, `(method, arguments)`, until None comes; runs as a process."""
    os.setsid()  # so that a compiler's own processes can be killed with this one
    for variable in CACHES:
        os.environ[variable] = str(job.cache / variable.lower())
    worker = Worker(job)
    while (command := connection.recv()) is not None:
        name, arguments = command
        method: Callable[..., object] = getattr(worker, name)
        try:
            connection.send(method(*arguments))
        except (VqError, RuntimeError, ImportError) as error:
            if not isinstance(error, VqError):  # the table gets one line of it, the log the rest
                traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            connection.send(Failure(f"{type(error).__name__}: {lines[0]}"))


def cut(workload: Workload, blocks: int) -> Workload:
    """`workload` with the first `blocks` blocks."""
    return replace(workload, config={**workload.config, "num_layers": blocks})
