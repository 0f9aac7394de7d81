"""A command in a forked child process, as a user's shell would start it, without importing anything again."""

import atexit
import contextlib
import ctypes
import io
import os
import resource
import select
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

LIMIT_S = 60.0
MEMORY_BEYOND = 3 << 30
"""Bytes that a command may take beside the libraries that are there before it starts."""
MAX_OUTPUT = 4 << 20
"""Bytes of a command's stdout or stderr that are looked at."""

Stream = Literal["file", "closed", "full"]
Prepare = Callable[[], object]
"""Called in the child before the command starts."""


@dataclass(frozen=True)
class Call:
    """A command line, and the surroundings in which it is run.

    Attributes:
        line: as it is typed.
        folder: working directory; home, temporary files and cache are folders in it.
        environment: variables beside the usual ones; None removes one.
        stdout, stderr: a file, closed, or the full device.
        encoding: of stdout and stderr.
        arguments: the words of the command line, where they are not what a shell makes of `line`.
    """

    line: str
    folder: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)
    stdout: Stream = "file"
    stderr: Stream = "file"
    encoding: str = "utf-8"
    arguments: tuple[str, ...] | None = None

    @property
    def words(self) -> list[str]:
        """The command and its arguments."""
        return list(self.arguments) if self.arguments is not None else shlex.split(self.line)


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    `code` is its exit code, minus the signal that killed it; `peak` its largest resident memory in bytes, with the
    libraries of all commands; `strays` whether processes that it had started outlived it.
    """

    code: int
    seconds: float
    peak: int
    stdout: str
    stderr: str
    timed_out: bool = False
    strays: bool = False


class Started:
    """A command that runs."""

    def __init__(self, call: Call, prepare: Prepare | None = None) -> None:
        """Fork, and run `call` in a session of its own."""
        self._call = call
        name = f"{call.folder.name}.{time.monotonic_ns()}"
        self._files = [call.folder.parent / f"{name}.{number}" for number in (1, 2)]
        self._start = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _become(call, self._files, prepare)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def interrupt(self, number: int) -> None:
        """Send a signal to the command alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def running_after(self, seconds: float) -> bool:
        """Whether it still runs after so long."""
        descriptor = os.pidfd_open(self.pid)
        try:
            return not select.select([descriptor], [], [], seconds)[0]
        finally:
            os.close(descriptor)

    def ended(self, limit_s: float = LIMIT_S) -> Outcome:
        """Wait for its end, or kill it at the limit."""
        timed_out = self.running_after(max(0.0, limit_s - (time.monotonic() - self._start)))
        if timed_out:
            self.kill()
        _, status, usage = os.wait4(self.pid, 0)
        seconds = time.monotonic() - self._start
        strays = self._has_strays()
        self.kill()
        texts = [_read(file) for file in self._files]
        for file in self._files:
            file.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        return Outcome(code, seconds, usage.ru_maxrss * 1024, texts[0], texts[1], timed_out, strays)

    def _has_strays(self) -> bool:
        """Whether the session still has processes after a moment in which they may end."""
        for _ in range(10):
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.05)
        return True


def run(call: Call, limit_s: float = LIMIT_S, prepare: Prepare | None = None) -> Outcome:
    """Run a command to its end."""
    return Started(call, prepare).ended(limit_s)


def surroundings(folder: Path) -> dict[str, str]:
    """The environment in which commands run: no network, and a home, temporary folder and cache in `folder`."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder / ".home"),
        "TMPDIR": str(folder / ".tmp"),
        "VQ_CACHE": str(folder / ".cache"),
    }


def _become(call: Call, files: list[Path], prepare: Prepare | None) -> None:
    """What the child does: never returns."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _redirect(call, files)
        os.chdir(call.folder)
        for name, value in (surroundings(call.folder) | dict(call.environment)).items():
            _set(name, value)
        tempfile.tempdir = None
        without_privileges()
        _limit_memory()
        if prepare is not None:
            prepare()
        code = _main(call.words)
        code = _finish(code)
    finally:
        os._exit(code)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _redirect(call: Call, files: list[Path]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, (kind, file) in enumerate(zip((call.stdout, call.stderr), files, strict=True), 1):
        if kind == "closed":
            os.close(number)
            continue
        path = "/dev/full" if kind == "full" else str(file)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout = sys.__stdout__ = _stream(1, call.stdout, call.encoding, "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, call.stderr, call.encoding, "backslashreplace")  # type: ignore[misc]


def _stream(number: int, kind: Stream, encoding: str, errors: str) -> Any:
    if kind == "closed":  # what Python makes of a closed descriptor as it starts
        return None
    raw = io.FileIO(number, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=number == 2)


def _main(words: list[str]) -> int:
    """The entry point of the command; its exit code."""
    sys.argv = words
    try:
        import_module(f"{words[0].replace('-', '_')}.cli").main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        if sys.stderr:
            print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - the interpreter's own last resort
        if sys.stderr:
            traceback.print_exc()
        return 1
    return 0


def _finish(code: int) -> int:
    """What the interpreter does at its end: join threads, run what was registered, flush stdout."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout:
                code = 120
                with contextlib.suppress(OSError, AttributeError):
                    print(f"Exception ignored while flushing sys.stdout: {error}", file=sys.stderr, flush=True)
    return code


def _limit_memory() -> None:
    """Let nothing take the memory of the whole machine: what needs so much more than 1 GiB is a fault all the same."""
    status = Path("/proc/self/status").read_text().split()
    limit = int(status[status.index("VmData:") + 1]) * 1024 + MEMORY_BEYOND
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def without_privileges() -> None:
    """Let the superuser meet the same permissions as anyone else."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()
    libc.capset(header, sets)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_OUTPUT).decode("utf-8", "backslashreplace")
    except OSError:
        return ""
