"""Events of the file system in a child, by number: at each of them it may be killed."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from campaign.child import Prepare

EVENTS = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime", "os.chmod",
    "shutil.rmtree", "shutil.move", "shutil.copyfile", "subprocess.Popen",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def watch(folder: Path, reached: Callable[[int], object]) -> Prepare:
    """What makes a child call `reached` with the number of each event of the file system in `folder`, from 1."""

    def prepare() -> None:
        lock, counted, root = threading.Lock(), 0, str(folder)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal counted
            if _counts(event, arguments, root):
                with lock:
                    counted += 1
                    reached(counted)

        sys.addaudithook(hook)

    return prepare


def _counts(event: str, arguments: tuple[object, ...], root: str) -> bool:
    if event == "open":
        path, mode, flags = arguments
        writes = (isinstance(flags, int) and flags & WRITES) or (isinstance(mode, str) and set(mode) & set("wax+"))
        return bool(writes) and _below(path, root)
    if event == "subprocess.Popen":
        return True
    return event in EVENTS and any(_below(path, root) for path in arguments[:2])


def _below(path: object, root: str) -> bool:
    text = os.fsdecode(path) if isinstance(path, bytes) else str(path) if isinstance(path, str | os.PathLike) else None
    return text is not None and (text.startswith(root) or not text.startswith("/"))
