"""How long the steps of a video take."""

import statistics
import time
from itertools import pairwise

import torch


class StepClock:
    """Times the steps of a sampling loop."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._times = [time.monotonic()]

    def tick(self) -> None:
        """A step has ended; waits for the device, which runs behind the host."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._times.append(time.monotonic())

    @property
    def count(self) -> int:
        """Steps that have ended."""
        return len(self._times) - 1

    def median(self) -> float | None:
        """Median seconds of a step; the first, which also encodes the image, counts only where it is alone."""
        durations = [after - before for before, after in pairwise(self._times)]
        return statistics.median(durations[1:] or durations) if durations else None
