"""Worker processes, called with a time limit and killed if they exceed it."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Self

from vq_infer.bench.worker import Failure, Job, serve

END_SECONDS = 10.0
START_METHOD = "forkserver"
PRELOADED = ("vq_infer.bench.worker",)
"""Imported once for all workers. Diffusers is not: it asks for CUDA devices as it is imported, and a process that has
asked cannot be forked."""


class RemoteWorker:
    """A `Worker` in another process."""

    def __init__(self, job: Job) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload(list(PRELOADED))
        own, other = context.Pipe()
        self._connection: Connection = own
        self._process = context.Process(target=serve, args=(other, job))
        self._process.start()
        other.close()

    def ask(self, limit: float, command: str, *arguments: Any) -> Any:
        """The answer to a command, or a `Failure`: the command failed, the process ended, or `limit` seconds passed."""
        begin = time.monotonic()
        try:
            self._connection.send((command, arguments))
            if not self._connection.poll(limit):
                self.end()
                return Failure(f"not finished after {time.monotonic() - begin:.0f} s")
            return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(END_SECONDS)
            return Failure(f"its process ended with exit code {self._process.exitcode}")

    def end(self) -> None:
        """Kill the process and all that it started."""
        if self._process.is_alive() and self._process.pid is not None:
            with suppress(ProcessLookupError):  # it has no process group of its own yet
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        self._process.join(END_SECONDS)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._connection.closed:
            self.end()
