"""Videos of the model itself, kept between runs: a dozen candidates share one reference, which takes hours."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import JsonValue, ValidationError

from vq_core.artifacts.videos import VideoFiles, VideoRecord
from vq_core.errors import VqError
from vq_core.files.disk_record import DiskRecord
from vq_core.files.tensor_file import sha256_of, write_bytes
from vq_core.remote.mirror import remove_local, user_cache

log = logging.getLogger(__name__)

Identity = Mapping[str, JsonValue]

ENTRY_FILE = "entry.json"
LOSSLESS, TO_LOOK_AT = "video.mkv", "video.mp4"


class _Entry(DiskRecord):
    """The record of an entry: what its video depends on, how it was made, and the SHA-256 of its files."""

    identity: dict[str, JsonValue]
    record: VideoRecord
    files: dict[str, str]


class ReferenceCache:
    """A folder with one folder per video, named by the SHA-256 of all that the video depends on.

    Any number of runs can use it at once, and it can be removed at any time. A video that is taken is a copy, checked
    against the digest in its entry; a damaged entry is made again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Open `folder`; without one, `references` in the user's cache, see `vq_core.remote.mirror.user_cache`.

        Raises:
            VqError: it cannot be written.
        """
        self.folder = folder or user_cache() / "references"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VqError(
                f"{self.folder} cannot keep references ({error.strerror}): name another folder with --cache, "
                "or leave them out of a cache with --no-cache."
            ) from error

    @contextmanager
    def alone(self, identity: Identity) -> Iterator[None]:
        """Hold the lock on the video of this `identity`; waits for another process that makes it."""
        path = self._path(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            yield

    def take(self, identity: Identity, files: VideoFiles) -> bool:
        """Copy the video of this `identity` to the draft `files`; False where there is none."""
        path = self._path(identity)
        entry = _read(path, identity)
        if entry is None:
            return False
        files.lossless.parent.mkdir(parents=True, exist_ok=True)
        for name, copy in ((LOSSLESS, files.lossless), (TO_LOOK_AT, files.to_look_at)):
            if not _copied(path / name, copy, entry.files.get(name)):
                log.warning("%s is not what was put there: the video is made again.", path / name)
                return False
        files.write_record(entry.record.model_copy(update={"cached": True}))
        return True

    def put(self, identity: Identity, files: VideoFiles) -> None:
        """Keep a copy of the video in `files`, which depends on `identity`; to be called `alone`.

        A failure, such as a full disk, is only a warning, because the run itself has its video.
        """
        path = self._path(identity)
        draft = path.with_name(f".{path.name}")
        try:
            self._put(identity, files, path, draft)
        except OSError as error:
            log.warning("%s could not be kept in the cache (%s).", files.lossless, error)

    def _put(self, identity: Identity, files: VideoFiles, path: Path, draft: Path) -> None:
        remove_local(draft)
        draft.mkdir(parents=True)
        try:
            shutil.copyfile(files.lossless, draft / LOSSLESS)
            shutil.copyfile(files.to_look_at, draft / TO_LOOK_AT)
            digests = {name: sha256_of(draft / name) for name in (LOSSLESS, TO_LOOK_AT)}
            entry = _Entry(identity=dict(identity), record=files.read_record(), files=digests)
            write_bytes(draft / ENTRY_FILE, entry.model_dump_json(indent=1).encode())
            remove_local(path)
            draft.replace(path)
        finally:
            remove_local(draft)

    def _path(self, identity: Identity) -> Path:
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        key = hashlib.sha256(canonical.encode()).hexdigest()
        return self.folder / key[:2] / key


def open_cache(folder: Path | None, *, no_cache: bool) -> ReferenceCache | None:
    """The cache of `--cache` and `--no-cache`; None for the latter.

    Raises:
        VqError: both are given, or the folder cannot be written.
    """
    if no_cache and folder is not None:
        raise VqError("`--cache` and `--no-cache` contradict each other: give one of them.")
    return None if no_cache else ReferenceCache(folder)


def _read(path: Path, identity: Identity) -> _Entry | None:
    """The entry in `path`; None where there is none, it cannot be read, or it has another identity."""
    if not (path / ENTRY_FILE).is_file():
        return None
    try:
        entry = _Entry.model_validate_json((path / ENTRY_FILE).read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        log.warning("%s is damaged (%s): the video is made again.", path / ENTRY_FILE, str(error).splitlines()[0])
        return None
    return entry if entry.identity == json.loads(json.dumps(identity)) else None


def _copied(path: Path, copy: Path, digest: str | None) -> bool:
    """Copy a file; whether the copy has this digest."""
    if not path.is_file():  # a named pipe would be waited for
        return False
    shutil.copyfile(path, copy)
    return sha256_of(copy) == digest
