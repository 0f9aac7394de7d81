"""The claim on an output: one command at a time writes it, and what cannot be written is refused before any work."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.remote.failures import is_full_disk

logger = logging.getLogger(__name__)

MAX_NAME = 200  # disks allow 255 bytes, and what is built beside an output has a longer name


@contextmanager
def claimed(path: Path, option: str = "--output") -> Iterator[None]:
    """Let no other command write `path` within the block.

    The lock is the system's, so that it ends with the process, however that ends. Its file lies beside `path`, and is
    removed with every folder above that was made for it and is still empty.

    Raises:
        VqError: `path` has no name of its own, or one that is too long; its folder cannot be written; or another
            command writes it.
    """
    if path.name in ("", ".."):
        raise VqError(f"`{option} {path}` does not name anything new: add a name, such as {path / 'out'}.")
    if path.name.endswith((".partial", ".unverified")):  # everybody takes these for unfinished
        raise VqError(f"{path} has the name of something unfinished: choose another {option}.")
    if len(os.fsencode(path.name)) > MAX_NAME:
        raise VqError(f"{path} has a name of more than {MAX_NAME} bytes: choose a shorter {option}.")
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    made: list[Path] = []
    is_new = False
    try:
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not is_there(file)
        if not is_new and (file.is_symlink() or not file.is_file() or file.stat().st_size):
            raise VqError(f"{file} is in the way and is no lock of ours: move it, or choose another {option}.")
        file.touch()  # filelock takes some of the system's refusals for another holder
        lock.acquire(timeout=0)
    except Timeout:
        raise VqError(
            f"Another command is writing {path}: wait until it has ended, or choose another {option}."
        ) from None
    except OSError as error:
        if is_new:
            file.unlink(missing_ok=True)
        _remove_empty(made)
        if is_full_disk(error):
            raise
        raise VqError(f"{path} cannot be written ({error.strerror}): choose another {option}.") from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held, so that nobody else's is removed
        lock.release()
        _remove_empty(made)


@contextmanager
def alone(lock_file: Path, doing: str) -> Iterator[None]:
    """Wait until no other process is in a block with this `lock_file`; `doing` says what such a process does."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("Waiting for another process that %s.", doing)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_empty(folders: Iterable[Path]) -> None:
    with suppress(OSError):  # not empty
        for folder in folders:
            folder.rmdir()
