"""Times on a device that runs behind the host."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, until the device has finished it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


class StepClock:
    """Times the steps of a sampling loop."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._times = [time.monotonic()]

    def tick(self) -> None:
        """Note the end of a step, when the device has finished it."""
        synchronize(self._device)
        self._times.append(time.monotonic())

    @property
    def count(self) -> int:
        """Steps that have ended."""
        return len(self._times) - 1

    def median(self) -> float | None:
        """Median seconds of a step; the first, which also encodes the image, counts only if it is the only one."""
        durations = [after - before for before, after in pairwise(self._times)]
        return statistics.median(durations[1:] or durations) if durations else None
