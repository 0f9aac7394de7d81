"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from vq_core.runtime.terminal import new_console, printable

LOG_INTERVAL_S = 30.0

Advance = Callable[[], None]
AdvanceBytes = Callable[[int], None]


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Show the progress of `total` units of work on stderr; the yielded function reports one unit done."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(printable(label), total, unit) as advance:
        yield advance


@contextmanager
def transfer_progress(label: str, total_bytes: int) -> Iterator[AdvanceBytes]:
    """Show the progress of a transfer on stderr; the yielded function, for any thread, reports bytes that are done."""
    show = _transfer_bar if sys.stderr.isatty() else _transfer_lines
    with show(printable(label), total_bytes) as advance:
        yield advance


@contextmanager
def _transfer_bar(label: str, total_bytes: int) -> Iterator[AdvanceBytes]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=new_console(stderr=True)) as bars:
        task = bars.add_task(label, total=total_bytes)
        yield lambda count: bars.advance(task, count)


@contextmanager
def _transfer_lines(label: str, total_bytes: int) -> Iterator[AdvanceBytes]:
    start = last = time.monotonic()
    done = 0
    alone = threading.Lock()

    def advance(count: int) -> None:
        nonlocal done, last
        with alone:
            done += count
            now = time.monotonic()
            if now - last < LOG_INTERVAL_S:
                return
            last = now
            rate = max(done, 1) / (now - start)
            _line(
                f"{label}: {decimal(done)}/{decimal(total_bytes)}, {decimal(int(rate))}/s", (total_bytes - done) / rate
            )

    yield advance
    took = max(time.monotonic() - start, 1e-9)
    _line(f"{label}: {decimal(total_bytes)}, {decimal(int(total_bytes / took))}/s", 0)


def _line(text: str, left_s: float) -> None:
    print(f"{text}, {left_s:.0f} s left", file=sys.stderr, flush=True)


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=new_console(stderr=True)) as bars:
        task = bars.add_task(label, total=total, rate=f"{unit}s")
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            bars.update(task, completed=done, rate=_rate(done, time.monotonic() - start, unit))

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if done < total and now - last < LOG_INTERVAL_S:
            return
        last = now
        left_s = (now - start) / done * (total - done)
        _line(f"{label}: {done}/{total} {unit}s, {_rate(done, now - start, unit)}", left_s)

    yield advance


def _rate(done: int, elapsed_s: float, unit: str) -> str:
    per_unit_s = elapsed_s / done
    return f"{per_unit_s:.1f} s/{unit}" if per_unit_s > 1 else f"{1 / max(per_unit_s, 1e-9):.1f} {unit}s/s"
