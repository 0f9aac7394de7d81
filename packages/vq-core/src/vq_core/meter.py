"""Seconds and peak memory of a stage, so that every summary can state them."""

import resource
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a stage cost; `device_peak_bytes` is 0 without CUDA."""

    seconds: float
    host_peak_bytes: int
    device_peak_bytes: int

    def rows(self) -> dict[str, str]:
        """The lines of a stage's summary."""
        rows = {"time": f"{self.seconds:.1f} s", "peak host memory": f"{self.host_peak_bytes / 2**30:.2f} GiB"}
        if self.device_peak_bytes:
            rows["peak device memory"] = f"{self.device_peak_bytes / 2**30:.2f} GiB"
        return rows


class Meter:
    """Started when made; `usage()` reads it. Host memory is the peak of the whole process."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def usage(self) -> Usage:
        """Cost so far."""
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return Usage(time.monotonic() - self._start, host, _device_peak_bytes())


def _device_peak_bytes() -> int:
    torch = sys.modules.get("torch")  # a stage that never imported torch used no device
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.max_memory_allocated())
