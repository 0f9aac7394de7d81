"""Where copies of remote files lie in the user's cache, and whether they are still what is there."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from vq_core.files.folder_content import files_below
from vq_core.files.tensor_file import publish, write_bytes
from vq_core.remote.location import Uri

CACHE_VARIABLE = "VQ_CACHE"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a filesystem: its path there, size in bytes, and version; None where the filesystem does not tell."""

    path: str
    size: int | None
    version: str | None


def user_cache() -> Path:
    """Where everything lies that may be removed at any time: `$VQ_CACHE`, else the user's cache folder."""
    said = os.environ.get(CACHE_VARIABLE)
    return Path(said) if said else user_cache_path("vq", appauthor=False)


def cache_folder() -> Path:
    """Where copies and unfinished uploads lie."""
    return user_cache() / "remote"


class Mirror:
    """The copy of one URI: the same tree of files, and in a second tree what version of each it is.

    A URI that is a file has the one name `""`. URIs within each other share their files.
    """

    def __init__(self, uri: Uri) -> None:
        self._files = cache_folder() / "files" / uri.protocol / uri.path
        self._versions = cache_folder() / "versions" / uri.protocol / uri.path

    def path(self, name: str) -> Path:
        """Where the copy of the file `name` lies."""
        return self._files / name if name else self._files

    def draft(self, name: str) -> Path:
        """Where `name` is while it arrives."""
        path = self.path(name)
        return path.with_name(f".{path.name}.part")

    def has(self, name: str, file: RemoteFile) -> bool:
        """Whether the copy of `name` is complete and of the version of `file`; one without a version never is."""
        path, noted = self.path(name), self._version(name)
        if file.version is None or not path.is_file() or not noted.is_file():
            return False
        return path.stat().st_size == file.size and noted.read_text(encoding="utf-8") == file.version

    def publish(self, name: str, version: str | None) -> None:
        """Make the draft of `name` its copy. The version is noted last: without it, a copy counts for nothing."""
        self._version(name).unlink(missing_ok=True)
        publish(self.draft(name), self.path(name))
        self._note(name, version)

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove copies of what is no longer there, and what was left half copied."""
        kept = set(names)
        if ("" in kept) is self._files.is_dir():  # a file where a folder was, or the reverse
            remove_local(self._files)
        for name, path in files_below(self._files).items():
            if name not in kept:
                path.unlink()

    def adopt(self, local: Path, listing: Mapping[str, RemoteFile]) -> Path:
        """Move `local`, whose files are those of `listing`, here."""
        remove_local(self._files)
        remove_local(self._versions)
        self._files.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(local, self._files)
        for name, file in listing.items():
            self._note(name, file.version)
        return self._files

    def remove(self) -> None:
        """Remove the copy."""
        remove_local(self._files)

    def _version(self, name: str) -> Path:
        path = self._versions / name if name else self._versions
        return path.with_name(f"{path.name}.version")

    def _note(self, name: str, version: str | None) -> None:
        if version is not None:
            write_bytes(self._version(name), version.encode())


def remove_local(path: Path) -> None:
    """Remove a file or folder of this machine, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
