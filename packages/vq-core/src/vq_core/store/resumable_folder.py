"""The folders in which artifacts are built, and what a run that was stopped has left there."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from vq_core.errors import VqError
from vq_core.files.folder_content import content_of
from vq_core.files.json_file import read_json
from vq_core.remote.location import Location
from vq_core.remote.transfer import staging_path
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


def remove_working_files(partial: Path) -> None:
    """Remove what a killed run was in the middle of writing."""
    for path in list(partial.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != RESUME_FILE:
            path.unlink(missing_ok=True)


def files_in(folder: Path) -> list[str]:
    """Paths of the finished files of an artifact, sorted: what its manifest lists."""
    return sorted(content_of(folder).keys() - {FILE_NAME})
