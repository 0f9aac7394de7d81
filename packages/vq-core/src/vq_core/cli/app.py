"""What every command of every stage shares: the error table, and how results are printed.

Kept free of heavy imports, so that `--help` answers at once.
"""

import atexit
import errno
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn, TypeVar

import typer
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from vq_core.errors import GateFailed, VqError
from vq_core.runtime.terminal import guard_streams, new_console, one_line, printable

T = TypeVar("T")

MIN_FILES = 64
INTERRUPTED = 130  # what typer exits with on Ctrl-C


def new_app(help_text: str) -> typer.Typer:
    """A command group in the house style."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run(app: typer.Typer) -> None:
    """Run `app`; exit 0 when done, 1 when a gate failed, 2 with one sentence when the user erred."""
    guard_streams()
    try:
        try:
            _require_surroundings()
            app()
        except SystemExit:
            sys.stdout.flush()  # the last moment to say that it cannot be
            raise
    except GateFailed as failure:
        _fail(str(failure), 1)
    except VqError as error:
        _fail(str(error), 2)
    except OSError as error:
        sentence = _disk_sentence(error)
        if sentence is None:
            raise
        _fail(sentence, 2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        said = ". ".join(str(error).split(". ")[:2])  # how much was asked for; the rest is about torch's allocator
        _fail(f"The device ran out of memory ({said}): use a smaller size or a device with more memory.", 2)
    except (SystemExit, KeyboardInterrupt) as stop:  # typer makes the one of the other, but not before and after it
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        _fail("Interrupted; what is unfinished can be continued with --resume.", INTERRUPTED)
    finally:
        # All is said and done: what libraries do at the end is not to be interrupted, which would be a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _require_surroundings() -> None:
    """Refuse what libraries end with a panic or a traceback in."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= most < MIN_FILES:
        raise VqError(f"Only {most} files may be open at once here, and {MIN_FILES} are needed: see `ulimit -n`.")
    try:
        os.getcwd()  # noqa: PTH109 - the fastest
    except FileNotFoundError:
        raise VqError("The folder that this command was started in has been removed: change to another one.") from None


def _disk_sentence(error: OSError) -> str | None:
    where = error.filename or "the output"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return (
                f"No space is left for {where}: free some and run the same command again, "
                "with --resume, where it has that, to keep what is finished."
            )
        case errno.EFBIG:
            return f"{where} is a larger file than this disk or the user's limits allow: choose another disk."
        case errno.ENAMETOOLONG:
            return f"{where} is a longer name than this disk allows: choose a shorter one."
        case errno.ELOOP:
            return f"{where} is a link that leads back to itself: put the file there."
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR:
            return f"{where} runs into a file where a folder is needed, or the reverse: choose another path."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{where} may not be written or read: choose another path or mend its permissions."
        case errno.EMFILE | errno.ENFILE:
            return "Too many files are open at once: allow more, such as with `ulimit -n 1024`, and run it again."
        case errno.EIO | errno.ESTALE | errno.EREMOTEIO:
            return f"{where} cannot be read or written ({error.strerror}): copy it from a disk that is well."
    return None


def _fail(sentence: str, code: int) -> NoReturn:
    new_console(stderr=True, soft_wrap=True).print(
        one_line(sentence), style="red" if code == 2 else "yellow", markup=False, highlight=False
    )
    with suppress(VqError):  # the sentence says what is wrong; at the end of the process this would say it again
        sys.stdout.flush()
    sys.exit(code)


def set_up_logging(verbose: bool) -> None:
    """Send the stages' log to stderr; what Python warns of inside a library is shown on request alone."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=new_console(stderr=True), show_path=False)],
    )
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.DEBUG if verbose else logging.ERROR)


def required(value: T | None, option: str) -> T:
    """`value`, or the sentence that says which option is missing."""
    if value is None:
        raise VqError(f"`{option}` is missing: give it, or a --recipe that says it.")
    return value


def report(
    title: str,
    rows: Mapping[str, object],
    *,
    result: Mapping[str, object],
    as_json: bool,
    next_steps: str = "",
    table: Table | None = None,
    note: str = "",
) -> None:
    """Print what was done: `result` as JSON for machines, else `rows` and what to run next; above them a `table`.

    A `note` is the first line of all.
    """
    if as_json:
        noted = {"note": note} if note else {}
        print(_json({**noted, **result}))
        return
    out = new_console()
    if note:
        out.print(note, markup=False, highlight=False, soft_wrap=True)
    if table is not None:
        out.print(table)
    summary = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    for name, value in rows.items():
        summary.add_row(name, Text(str(value)))  # as it is: brackets in a path are not markup
    out.print(summary)
    if next_steps:
        out.print(f"Next: {next_steps}", markup=False, highlight=False, soft_wrap=True)


def _json(result: Mapping[str, object]) -> str:
    text = json.dumps(result, indent=2, default=str, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(result, indent=2, default=str)
    return text if printable(text) == text else json.dumps(result, indent=2, default=str)
