"""The journal of a partial folder: the SHA-256 of every finished file, on the disk before the file has its name.

Each process appends to a journal of its own, a line of JSON for a file. A file may stand there more than once: if its
writer was killed between the line and the name, it still has its former content.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from vq_core.files.disk_record import DiskRecord
from vq_core.files.given_file import read_given
from vq_core.files.tensor_file import sync, write_bytes

JOURNALS = ".journal-*.jsonl"


class _Line(DiskRecord):
    file: str
    sha256: str


class Journal:
    """What one process notes in the partial folder `folder`; `rank` tells the processes of a command apart."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._path = folder / f".journal-{rank}.jsonl"
        self._digests = {file: digests[-1] for file, digests in read_journals(folder).items()}
        self._writing = Lock()

    def __contains__(self, file: str) -> bool:
        """Was `file` (path inside the folder) noted, by this process now or by any before?"""
        return file in self._digests

    def note(self, digests: Mapping[str, str]) -> None:
        """Write down the SHA-256 of files that are about to get their names; several threads may do so."""
        with self._writing:
            is_new = not self._path.exists()
            with self._path.open("ab") as journal:
                journal.write(_lines(digests.items()))
                journal.flush()
                os.fsync(journal.fileno())
            if is_new:
                sync(self._path.parent)
            self._digests.update(digests)

    def digests(self) -> dict[str, str]:
        """What every process has noted."""
        return {file: noted[-1] for file, noted in read_journals(self._path.parent).items()} | self._digests


def begin_journal(folder: Path, digests: Mapping[str, str]) -> None:
    """Put a journal that holds `digests` in the place of all that lie in `folder`."""
    first = folder / ".journal-0.jsonl"
    write_bytes(first, _lines(digests.items()))
    for path in folder.glob(JOURNALS):
        if path != first:
            path.unlink()


def read_journals(folder: Path) -> dict[str, list[str]]:
    """By file every SHA-256 that was noted, the last one last.

    Raises:
        VqError: a journal is no file.
    """
    noted: dict[str, list[str]] = {}
    for path in sorted(folder.glob(JOURNALS)):
        for text in read_given(path).splitlines():
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                continue  # blank, or a kill has ended it in the middle: its file does not have its name then
            noted.setdefault(line.file, []).append(line.sha256)
    return noted


def _lines(digests: Iterable[tuple[str, str]]) -> bytes:
    # Each begins a line of its own, because the one before may have been cut off.
    lines = (json.dumps({"file": file, "sha256": sha256}, ensure_ascii=False) for file, sha256 in digests)
    return "".join(f"\n{line}" for line in lines).encode()
