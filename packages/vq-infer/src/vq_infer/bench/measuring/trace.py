"""A torch profile as a list of launches: every kernel with the operation and the ranges that it came from.

The trace that torch's profiler exports is read. Its `kernel` events carry the correlation number of the call that
launched them, and that call lies in time inside its operation and inside the ranges around it.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vq_infer.bench.measuring.kinds import Launch

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")
ON_HOST = ("cpu_op", "user_annotation")


@dataclass(frozen=True, eq=False)  # two operations of one name, shape and time are still two
class _Span:
    begin: float
    end: float
    is_range: bool
    name: str
    dims: tuple[tuple[int, ...], ...]


def read_trace(path: Path) -> list[Launch]:
    """The launches of an exported trace, in order of time; if it has no kernels, the operations on the CPU."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    complete = [event for event in events if event.get("ph") == "X"]
    if any(event.get("cat") in ON_DEVICE for event in complete):
        return list(_kernels(complete))
    return list(_operations(complete))


def _kernels(events: Sequence[Mapping[str, Any]]) -> Iterator[Launch]:
    calls = {event["args"]["correlation"]: event for event in events if event.get("cat") in CALLS}
    threads = {thread: _stacks(spans) for thread, spans in _spans_by_thread(events).items()}
    for event in sorted((event for event in events if event.get("cat") in ON_DEVICE), key=lambda event: event["ts"]):
        call = calls.get(event["args"].get("correlation"))
        around = () if call is None else threads.get(call["tid"], _Stacks([], [])).at(call["ts"])
        yield _launch(event["name"], event["dur"], around)


def _operations(events: Sequence[Mapping[str, Any]]) -> Iterator[Launch]:
    """Each operation with the time that it took itself, without the operations inside it."""
    for spans in _spans_by_thread(events).values():
        stacks = _stacks(spans).open
        own = {span: span.end - span.begin for span in spans}
        for *_, parent, span in (stack for stack in stacks if len(stack) > 1):
            own[parent] -= span.end - span.begin
        for stack in stacks:
            if not stack[-1].is_range:
                yield _launch(stack[-1].name, own[stack[-1]], stack)


def _spans_by_thread(events: Sequence[Mapping[str, Any]]) -> dict[Any, list[_Span]]:
    """Operations and ranges of each thread, outer before inner."""
    threads: dict[Any, list[_Span]] = {}
    for event in events:
        if event.get("cat") in ON_HOST:
            dims = tuple(_shape(size) for size in event.get("args", {}).get("Input Dims", ()))
            is_range = event["cat"] == "user_annotation"
            span = _Span(event["ts"], event["ts"] + event["dur"], is_range, event["name"], dims)
            threads.setdefault(event["tid"], []).append(span)
    for spans in threads.values():
        spans.sort(key=lambda span: (span.begin, -span.end))
    return threads


def _shape(size: object) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, list) and all(isinstance(length, int) for length in size) else ()


@dataclass(frozen=True)
class _Stacks:
    """The spans that are open on one thread from each moment to the next."""

    moments: list[float]
    open: list[tuple[_Span, ...]]

    def at(self, moment: float) -> tuple[_Span, ...]:
        """The spans around `moment`, from the outermost."""
        index = bisect_right(self.moments, moment) - 1
        return () if index < 0 else tuple(span for span in self.open[index] if span.end >= moment)


def _stacks(spans: Sequence[_Span]) -> _Stacks:
    moments: list[float] = []
    opened: list[tuple[_Span, ...]] = []
    stack: list[_Span] = []
    for span in spans:
        stack = [*(around for around in stack if around.end > span.begin), span]
        moments.append(span.begin)
        opened.append(tuple(stack))
    return _Stacks(moments, opened)


def _launch(name: str, microseconds: float, around: Sequence[_Span]) -> Launch:
    operations = [span for span in around if not span.is_range]
    # Products and attention keep their shapes where torch hands them on to a backend's own operation.
    op = next((span for span in operations if "scaled_dot_product" in span.name), None)
    op = op or (operations[-1] if operations else None)
    ranges = tuple(span.name for span in around if span.is_range)
    return Launch(name, microseconds, op.name if op else "", op.dims if op else (), ranges)
