import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vq_core.runtime import meter
from vq_core.runtime.meter import Meter, StageMeter, Usage


def test_seconds_since_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    running = Meter()
    now[0] = 7.5
    assert running.usage().seconds == 2.5


def test_host_memory_covers_what_was_allocated() -> None:
    held = torch.ones(16 << 20, dtype=torch.uint8)
    peak = Meter().usage().host_peak_bytes
    assert held.numel() < peak < 1 << 40


def test_a_childs_peak_is_its_own() -> None:
    held = torch.ones(256 << 20, dtype=torch.uint8)
    script = "from vq_core.runtime.meter import host_peak_bytes; print(host_peak_bytes())"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(child.stdout) < held.numel() < Meter().usage().host_peak_bytes


def test_host_memory_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from_proc = meter.host_peak_bytes()
    monkeypatch.setattr(meter, "PROC_STATUS", tmp_path / "missing")
    assert meter.host_peak_bytes() >= from_proc - (1 << 20)


def test_no_device_memory_without_torch_or_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Meter().usage().device_peak_bytes == 0
    monkeypatch.delitem(sys.modules, "torch")
    assert Meter().usage().device_peak_bytes == 0


def test_device_memory_is_cudas_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 30)
    assert Meter().usage().device_peak_bytes == 3 << 30


def test_rows() -> None:
    assert Usage(2.04, 3 << 29, 0).rows() == {"time": "2.0 s", "peak host memory": "1.50 GiB"}
    assert Usage(2.04, 3 << 29, 1 << 30).rows()["peak device memory"] == "1.00 GiB"


def test_stages_follow_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now, peak = [0.0], [0]

    def reset() -> None:
        peak[0] = 0

    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak[0])
    stages = StageMeter()
    now[0] = 1.0
    stages.begin("load")
    now[0], peak[0] = 3.0, 7
    stages.begin("sample")
    now[0], peak[0] = 10.0, 5
    stages.begin("load")
    now[0], peak[0] = 11.0, 6
    stages.begin("sample")
    now[0], peak[0] = 14.0, 8
    done, whole = stages.finish()
    assert {name: (usage.seconds, usage.device_peak_bytes) for name, usage in done.items()} == {
        "load": (3.0, 7),
        "sample": (10.0, 8),
    }
    assert list(done) == ["load", "sample"]
    assert (whole.seconds, whole.device_peak_bytes) == (14.0, 8)
