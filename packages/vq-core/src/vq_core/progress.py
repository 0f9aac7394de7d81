"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG_INTERVAL_S = 30.0

Advance = Callable[[], None]


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Show the progress of `total` units of work on stderr; the yielded function reports one unit done."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(label, total, unit) as advance:
        yield advance


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
    with Progress(*columns, console=Console(stderr=True)) as bars:
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
        print(
            f"{label}: {done}/{total} {unit}s, {_rate(done, now - start, unit)}, {left_s:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    yield advance


def _rate(done: int, elapsed_s: float, unit: str) -> str:
    per_unit_s = elapsed_s / done
    return f"{per_unit_s:.1f} s/{unit}" if per_unit_s > 1 else f"{1 / max(per_unit_s, 1e-9):.1f} {unit}s/s"
