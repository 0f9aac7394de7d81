"""The folders of videos that are compared: the reference, the floor and the candidates, each with its own name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vq_core.errors import VqError
from vq_core.media.video_folder import videos_in
from vq_core.remote.location import Location, parse_named
from vq_core.remote.transfer import local_copy
from vq_eval.compare.schema import Role

REFERENCE_NAME = "reference"
FLOOR_NAME = "floor"


@dataclass(frozen=True)
class ComparedEntry:
    """One folder as it was given."""

    name: str
    role: Role
    location: Location


@dataclass(frozen=True)
class ComparedFolder:
    """The folder on this machine; `videos` are its files by stem, sorted."""

    entry: ComparedEntry
    path: Path
    videos: dict[str, Path]


def entries_of(reference: Location, candidates: Sequence[str], floor: Location | None) -> tuple[ComparedEntry, ...]:
    """The reference, the floor where there is one, and the candidates.

    Raises:
        VqError: no candidate, or two rows with one name; see `parse_named`.
    """
    if not candidates:
        raise VqError("`--candidate` is missing: give a folder of videos to compare, with a name: NAME=FOLDER.")
    rows = [ComparedEntry(REFERENCE_NAME, "reference", reference)]
    if floor is not None:
        rows.append(ComparedEntry(FLOOR_NAME, "floor", floor))
    named = [parse_named(text, "--candidate") for text in candidates]
    rows += [ComparedEntry(candidate.name, "candidate", candidate.path) for candidate in named]
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise VqError(f"Two rows are called `{row.name}`: give them names, --candidate NAME=FOLDER.")
        seen.add(row.name)
    return tuple(rows)


def open_folders(entries: Sequence[ComparedEntry]) -> tuple[ComparedFolder, ...]:
    """The folders of `entries`, the reference first; all hold videos with the same names.

    Raises:
        VqError: a folder is missing or holds no videos, or a stem is missing from one of two folders.
    """
    paths = [local_copy(entry.location) for entry in entries]
    folders = [ComparedFolder(entry, path, videos_in(path)) for entry, path in zip(entries, paths, strict=True)]
    for folder in folders[1:]:
        _require_same_names(folders[0], folder)
    return tuple(folders)


def _require_same_names(reference: ComparedFolder, candidate: ComparedFolder) -> None:
    if reference.videos.keys() != candidate.videos.keys():
        sides = (
            (reference.path, reference.videos.keys() - candidate.videos.keys()),
            (candidate.path, candidate.videos.keys() - reference.videos.keys()),
        )
        lonely = " and ".join(f"{', '.join(sorted(names))} only in {path}" for path, names in sides if names)
        raise VqError(f"The folders hold different videos, {lonely}: give folders with the same names.")
