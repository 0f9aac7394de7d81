"""Timing on the device: first step, steady load, and what the card does meanwhile."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Steady:
    """Steps under steady load.

    Attributes:
        seconds: of every step.
        watts: of the card, sampled meanwhile; empty without CUDA or nvidia-ml-py.
        megahertz: of its multiprocessors, likewise.
        celsius: of its chip, likewise.
    """

    seconds: tuple[float, ...]
    watts: tuple[float, ...] = ()
    megahertz: tuple[float, ...] = ()
    celsius: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest − fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def then(self, later: "Steady") -> "Steady":
        """Both rounds as one."""
        return Steady(
            self.seconds + later.seconds,
            self.watts + later.watts,
            self.megahertz + later.megahertz,
            self.celsius + later.celsius,
        )


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, until the device has finished it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def steady(work: Callable[[], object], device: torch.device, seconds: float, warm_up: int = 1) -> Steady:
    """Run `work` one step after the other for `seconds`, at least twice, after `warm_up` steps that do not count."""
    for _ in range(warm_up):
        timed(work, device)
    times: list[float] = []
    with telemetry(device) as samples:
        while len(times) < 2 or sum(times) < seconds:
            times.append(timed(work, device))
    return Steady(tuple(times), tuple(samples.watts), tuple(samples.megahertz), tuple(samples.celsius))


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Samples:
    """What the card said, sample by sample."""

    watts: list[float] = field(default_factory=list)
    megahertz: list[float] = field(default_factory=list)
    celsius: list[float] = field(default_factory=list)


@contextmanager
def telemetry(device: torch.device) -> Iterator[Samples]:
    """Watch power, clock and temperature, every tenth of a second, from a thread of its own."""
    samples, stop = Samples(), threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            samples.watts.append(torch.cuda.power_draw(device) / 1000)
            samples.megahertz.append(float(torch.cuda.clock_rate(device)))
            samples.celsius.append(float(torch.cuda.temperature(device)))

    watcher = threading.Thread(target=watch, daemon=True) if _can_watch(device) else None
    if watcher is not None:
        watcher.start()
    try:
        yield samples
    finally:
        stop.set()
        if watcher is not None:
            watcher.join()


def _can_watch(device: torch.device) -> bool:
    """torch asks the card through nvidia-ml-py, which may be missing."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.power_draw(device)
    except (ModuleNotFoundError, RuntimeError):
        return False
    return True
