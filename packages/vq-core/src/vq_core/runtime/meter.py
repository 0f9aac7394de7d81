"""Time and peak memory of a stage, for its summary."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Usage:
    """What a stage cost; `device_peak_bytes` is 0 without CUDA."""

    seconds: float
    host_peak_bytes: int
    device_peak_bytes: int

    def then(self, other: "Usage") -> "Usage":
        """Usage of both, one after the other."""
        return Usage(
            self.seconds + other.seconds,
            max(self.host_peak_bytes, other.host_peak_bytes),
            max(self.device_peak_bytes, other.device_peak_bytes),
        )

    def rows(self) -> dict[str, str]:
        """The lines of a stage's summary."""
        rows = {"time": f"{self.seconds:.1f} s", "peak host memory": f"{self.host_peak_bytes / 2**30:.2f} GiB"}
        if self.device_peak_bytes:
            rows["peak device memory"] = f"{self.device_peak_bytes / 2**30:.2f} GiB"
        return rows


class Meter:
    """Starts when it is created; `usage()` reads it. Host memory is the peak of the whole process."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def usage(self) -> Usage:
        """Usage so far."""
        return Usage(time.monotonic() - self._start, host_peak_bytes(), _device_peak_bytes())


class StageMeter:
    """Measures the stages of one run, which follow each other and may recur."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._done: dict[str, Usage] = {}
        self._stage: str | None = None
        self._meter = Meter()

    def begin(self, stage: str) -> None:
        """End the current stage, if any, and begin `stage`."""
        self._end()
        _reset_device_peak()
        self._stage, self._meter = stage, Meter()

    def finish(self) -> tuple[dict[str, Usage], Usage]:
        """End the last stage; return the usage of each stage, in order, and of the whole run.

        The host peak of a stage is the peak of the process up to the end of the stage.
        """
        self._end()
        device_peak = max((usage.device_peak_bytes for usage in self._done.values()), default=0)
        return self._done, Usage(time.monotonic() - self._start, host_peak_bytes(), device_peak)

    def _end(self) -> None:
        if self._stage is not None:
            usage, before = self._meter.usage(), self._done.get(self._stage)
            self._done[self._stage] = usage if before is None else before.then(usage)
        self._stage = None


def host_peak_bytes() -> int:
    """Peak resident memory of this process.

    On Linux from /proc, because `ru_maxrss` survives exec there: a child starts with the peak of its parent.
    """
    if PROC_STATUS.exists():
        fields = dict(line.split(":", 1) for line in PROC_STATUS.read_text().splitlines())
        return int(fields["VmHWM"].removesuffix("kB")) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device_peak_bytes() -> int:
    torch = sys.modules.get("torch")  # a stage that never imported torch used no device
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.max_memory_allocated())


def _reset_device_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
