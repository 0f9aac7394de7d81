"""The folders in which artifacts are built, and what a run that was stopped has left there."""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import JsonValue

from vq_core.errors import VqError
from vq_core.files import tensor_file
from vq_core.files.folder_content import content_of
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.remote.location import Location
from vq_core.remote.transfer import staging_path
from vq_core.runtime.progress import progress
from vq_core.store.journal import JOURNALS, begin_journal, read_journals
from vq_core.store.manifest import FILE_NAME

RESUME_FILE = ".resume.json"
"""Says what a partial folder was begun with; without it, an artifact is complete or not ours."""


def partial_folder(path: Path) -> Path:
    """Where the artifact `path` is built."""
    return path.with_name(f"{path.name}.partial")


def unverified_folder(path: Location) -> Path:
    """Where the artifact `path` lies, complete, while it is checked, and where it stays if that fails."""
    return staging_path(path).with_name(f"{path.name}.unverified")


def check_resumable(partial: Path, identity: Mapping[str, JsonValue], resume: bool, path: Location) -> None:
    """Refuse to go on in `partial` unless that is asked for and it was begun with the same `identity`.

    Raises:
        VqError: says which it is.
    """
    if not resume:
        raise VqError(f"{partial} is left from an interrupted run: continue it with --resume, or remove it.")
    before = read_json(partial / RESUME_FILE, damaged=f"remove {partial}")
    changed = [key for key in identity if before.get(key) != identity[key]]
    if changed:
        raise VqError(
            f"{partial} was begun with other {', '.join(changed)}: run the same command again, "
            f"or remove it to begin {path.name} anew."
        )


def begin(partial: Path, identity: Mapping[str, JsonValue]) -> None:
    """Make the folder `partial` for a run with this `identity`. It can be resumed as soon as `RESUME_FILE` is there."""
    partial.mkdir(parents=True, exist_ok=True)
    begin_journal(partial, {})
    tensor_file.write_bytes(partial / RESUME_FILE, json.dumps(identity, indent=1).encode())


def take_up(partial: Path, inseparable: Collection[str]) -> None:
    """Remove what a killed run was in the middle of writing, and hold every finished file against the journal.

    Files whose paths match one of the patterns `inseparable` cannot be made again alone.

    Raises:
        VqError: a file was not journaled, or is not as it was; or the folder has no journal.
    """
    _remove_working_files(partial)
    if not list(partial.glob(JOURNALS)):
        raise VqError(
            f"{partial} was begun by an earlier version, which noted no digests of what is finished: "
            "remove it and run the same command again."
        )
    noted = read_journals(partial)
    found = _files_of(partial, noted)
    with progress("check", len(found), "file") as advance, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as hashing:
        digests: dict[str, str] = {}
        hashed = hashing.map(lambda file: tensor_file.sha256_of(partial / file), found)
        for file, digest in zip(found, hashed, strict=True):
            if digest not in noted[file]:
                alone = not any(fnmatchcase(file, pattern) for pattern in inseparable)
                raise VqError(
                    f"{partial / file} is not the file that was written (its SHA-256 differs): "
                    f"remove {'it' if alone else partial} and run the same command again{' with --resume' * alone}."
                )
            digests[file] = digest
            advance()
    begin_journal(partial, digests)


def forget(folder: Path) -> None:
    """Remove what tells how to resume `folder`, which is complete."""
    for path in [*folder.glob(JOURNALS), folder / RESUME_FILE]:
        path.unlink(missing_ok=True)


def tidy(path: Path) -> None:
    """Let go what `forget` has left in the complete artifact `path`, because a kill came before."""
    if is_there(path / RESUME_FILE) and is_there(path / FILE_NAME):
        forget(path)


def files_in(folder: Path) -> list[str]:
    """Paths of the finished files of an artifact, sorted: what its manifest lists."""
    return sorted(content_of(folder).keys() - {FILE_NAME})


def _files_of(partial: Path, noted: Collection[str]) -> list[str]:
    """Paths of the finished files in `partial`, each of which is a file and `noted`."""
    files = []
    for path in sorted(partial.rglob("*")):
        name = path.relative_to(partial).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if name.startswith(".") or (is_folder and name not in noted):
            continue
        if name not in noted:
            raise VqError(
                f"{path} was not written by the run that is resumed: move it away and run the same command again."
            )
        if is_folder or path.is_symlink() or not path.is_file():
            raise VqError(
                f"{path} is not the file that was written, but a folder, a link or the like: "
                "remove it and run the same command again with --resume."
            )
        files.append(name)
    return files


def _remove_working_files(partial: Path) -> None:
    for path in [*partial.rglob(".*"), partial / FILE_NAME]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != RESUME_FILE and not fnmatchcase(path.name, JOURNALS):
            path.unlink(missing_ok=True)
