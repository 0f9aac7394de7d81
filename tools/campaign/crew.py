"""Workers that play cases beside each other: forked from the process that has imported everything."""

import json
import os
import select
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict

from campaign.cases import Ground, Result, play


def results(
    ground: Ground, jobs: int, last: int | None, ends_at: float, note: Callable[[str], None]
) -> Iterator[Result]:
    """Results of the cases 0, 1, … up to `last`, or until the monotonic clock says `ends_at`, as they come.

    `note` gets a message for each case that the campaign itself could not judge.
    """
    pipes = {}
    pids = []
    for job in range(jobs):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _work(ground, range(job, last if last is not None else 10**9, jobs), ends_at, writing)
        os.close(writing)
        pipes[reading] = b""
        pids.append(pid)
    while pipes:
        for reading in select.select(list(pipes), [], [])[0]:
            data = os.read(reading, 1 << 16)
            if not data:
                os.close(reading)
                del pipes[reading]
                continue
            *lines, pipes[reading] = (pipes[reading] + data).split(b"\n")
            for line in map(json.loads, lines):
                if "broken" in line:
                    note(line["broken"])
                else:
                    yield Result(**line)
    for pid in pids:
        os.waitpid(pid, 0)


def _work(ground: Ground, numbers: range, ends_at: float, writing: int) -> None:
    """What a worker does: never returns."""
    try:
        for number in numbers:
            if time.monotonic() >= ends_at:
                break
            try:
                line = asdict(play(ground, number)[0])
            except Exception:  # noqa: BLE001 - a case that the campaign cannot judge is told, and the next one played
                line = {"broken": f"case {number}: {traceback.format_exc()}"}
            _send(writing, json.dumps(line).encode() + b"\n")
    finally:
        os._exit(0)


def _send(writing: int, data: bytes) -> None:
    while data:
        data = data[os.write(writing, data) :]
