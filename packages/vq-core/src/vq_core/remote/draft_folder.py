"""The folder in which an output that cannot be resumed is built, whole, before it gets its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vq_core.remote.mirror import remove_local


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, which is claimed, to fill and to publish; removed at the end if it was not.

    It has the same name in every run, so that what a killed one has left is removed.
    """
    draft = path.with_name(f".{path.name}.draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_local(draft)
    draft.mkdir()
    try:
        yield draft
    finally:
        remove_local(draft)
