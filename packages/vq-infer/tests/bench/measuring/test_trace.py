"""Traces: one written by hand with kernels, and one that torch's profiler exports on the CPU."""

import json
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from vq_infer.bench.measuring.kinds import Launch
from vq_infer.bench.measuring.trace import read_trace


def event(cat: str, name: str, ts: float, dur: float, tid: int = 1, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": tid, "args": args}


def launches_of(tmp_path: Path, events: list[dict[str, Any]]) -> list[Launch]:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return read_trace(path)


def test_kernels_by_what_launched_them(tmp_path: Path) -> None:
    events = [
        event("user_annotation", "vq/QUANTIZE", 0, 100),
        event("cpu_op", "aten::linear", 10, 20, **{"Input Dims": [[4, 8], []]}),
        event("cpu_op", "aten::mm", 12, 10, **{"Input Dims": [[4, 8], [8, 2]]}),
        event("cuda_runtime", "cudaLaunchKernel", 15, 2, correlation=7),
        event("cuda_driver", "cuLaunchKernel", 50, 2, correlation=8),
        event("cuda_runtime", "cudaLaunchKernel", 300, 2, correlation=9),
        event("kernel", "third", 430, 3, tid=99, correlation=9),
        event("kernel", "gemm", 400, 5, tid=99, correlation=7),
        event("kernel", "_kernel", 410, 7, tid=99, correlation=8),
        event("gpu_memcpy", "Memcpy", 420, 1, tid=99, correlation=1234),
        {"ph": "M", "name": "process_name"},
    ]
    gemm, custom, copy, third = launches_of(tmp_path, events)
    assert (gemm.name, gemm.microseconds, gemm.op, gemm.dims) == ("gemm", 5, "aten::mm", ((4, 8), (8, 2)))
    assert gemm.ranges == custom.ranges == ("vq/QUANTIZE",)
    assert (custom.op, copy.op, third.op, third.ranges) == ("", "", "", ())


def test_operations_on_the_cpu(tmp_path: Path) -> None:
    x, path = torch.randn(64, 32), tmp_path / "trace.json"
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiler:
        with record_function("vq/GELU"):
            torch.nn.functional.gelu(x)
        torch.nn.functional.linear(x, torch.randn(16, 32))
    profiler.export_chrome_trace(str(path))
    launches = {launch.name: launch for launch in read_trace(path)}
    assert launches["aten::gelu"].ranges == ("vq/GELU",)
    assert launches["aten::mm"].dims[:2] == ((64, 32), (32, 16))
    assert launches["aten::mm"].ranges == ()
    assert all(launch.microseconds >= 0 for launch in launches.values())


def test_operations_less_those_inside(tmp_path: Path) -> None:
    events = [event("cpu_op", "outer", 0, 10), event("cpu_op", "inner", 2, 3), event("cpu_op", "later", 20, 1)]
    found = {launch.name: launch.microseconds for launch in launches_of(tmp_path, events)}
    assert found == {"outer": 7, "inner": 3, "later": 1}
