"""Steps under steady load, and what the card does meanwhile."""

import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import torch

from vq_infer.timing import timed

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Steady:
    """Steps under steady load.

    Attributes:
        seconds: of every step.
        watts: drawn by the card, sampled meanwhile; empty without CUDA or nvidia-ml-py.
        megahertz: clock of its multiprocessors, likewise.
        celsius: temperature of its chip, likewise.
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
        return Steady(*(first + second for first, second in zip(astuple(self), astuple(later), strict=True)))


def steady(work: Callable[[], object], device: torch.device, seconds: float, warm_up: int = 1) -> Steady:
    """Run `work` one step after the other for `seconds`, at least twice, after `warm_up` steps that do not count."""
    for _ in range(warm_up):
        timed(work, device)
    times: list[float] = []
    with telemetry(device) as samples:
        while len(times) < 2 or sum(times) < seconds:
            times.append(timed(work, device))
    return Steady(tuple(times), *zip(*samples, strict=True))


@contextmanager
def telemetry(device: torch.device) -> Iterator[list[tuple[float, float, float]]]:
    """Samples of watts, megahertz and degrees Celsius, taken every tenth of a second in a thread of its own."""
    samples: list[tuple[float, float, float]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            watts = torch.cuda.power_draw(device) / 1000
            samples.append((watts, float(torch.cuda.clock_rate(device)), float(torch.cuda.temperature(device))))

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
