"""Folders and files at fsspec URIs (`s3://`, `gs://`, `hf://`, …): copied here to be read, uploaded when written.

Nothing else in the project opens a URI. What is read is mirrored in the user's cache and copied again only where size
or version of the remote file have changed. What is written is built in the cache, as it would be built anywhere on a
disk, and uploaded when it is complete; the file that makes it complete goes last, so that nobody reads half of it.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from vq_core.errors import VqError
from vq_core.files.folder_content import content_of
from vq_core.files.given_file import is_there
from vq_core.files.tensor_file import publish
from vq_core.remote.claim import alone, claimed
from vq_core.remote.failures import describe, is_full_disk, remedy
from vq_core.remote.location import Location, Uri
from vq_core.remote.mirror import CACHE_VARIABLE, Mirror, RemoteFile, cache_folder, remove_local
from vq_core.runtime.progress import AdvanceBytes, transfer_progress

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

# Their own limits let a server that says nothing hold a command for minutes.
SILENCE_S = 10.0
LIMITS = {"config_kwargs": {"connect_timeout": 5, "read_timeout": SILENCE_S, "retries": {"total_max_attempts": 2}}}
SLOWEST = 50_000  # bytes of a file in a second; some waits of the libraries have no limit at all
RETRIES = 1
PARALLEL = 8  # files under way at once
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Which extra of vq-core opens a protocol; the path of each of these begins with a bucket that has to be there."""
# What fsspec's filesystems call that which changes with a file's content, surest first: hashes, then times.
VERSION_KEYS = ("ETag", "etag", "blob_id", "md5Hash", "LastModified", "last_modified", "modified", "mtime", "created")


def exists(location: Location) -> bool:
    """Whether a file or folder is there.

    Raises:
        VqError: a URI cannot be asked.
    """
    if not isinstance(location, Uri):
        return is_there(Path(str(location)))
    with _failing_as(location, "read"):
        filesystem, root = _open(location)
        return bool(_answer(partial(filesystem.exists, root)))


def local_copy(location: Location, *, only: Sequence[str] | None = None, without: Sequence[str] | None = None) -> Path:
    """`location` itself where it is a path; of a URI a copy in the cache, of what is there now.

    Of a folder `only` files that match one of these patterns are copied, and none that match one of `without`.

    Raises:
        VqError: nothing is there, the URI cannot be read, or the disk is full.
    """
    if not isinstance(location, Uri):
        return Path(str(location))
    with _failing_as(location, "read"):
        filesystem, root = _open(location)
        listing = _answer(partial(_listing, filesystem, root, location))
    if not listing:
        raise VqError(f"There is nothing at {location}: check the address.")
    is_file = "" in listing
    wanted = [name for name in listing if is_file or _matches(name, only or ["*"], without or [])]
    mirror = Mirror(location)
    with _locked(location), _failing_as(location, "read"):
        mirror.keep_only(listing)
        stale = {name: listing[name] for name in wanted if not mirror.has(name, listing[name])}
        if stale:
            with transfer_progress(f"download {location}", sum(file.size or 0 for file in stale.values())) as advance:
                _in_parallel(partial(_download, filesystem, mirror, advance), stale.items())
        if not is_file:
            mirror.path("").mkdir(parents=True, exist_ok=True)
    return mirror.path("")


@contextmanager
def local_output(location: Location, *, last: str = "", option: str = "--output") -> Iterator[Path]:
    """Where to write the file or folder that shall be at `location`: there, or for a URI in the cache.

    To be entered before anything is computed. What was written for a URI is uploaded when the block ends without an
    error, the file `last` of a folder last.

    Raises:
        VqError: something is at `location` already, it cannot be written, or another command writes it.
    """
    staged = staging_path(location)
    with claimed(staged, option):
        refuse_existing(location, option)
        if not isinstance(location, Uri):
            yield staged
            return
        remove_local(staged)
        try:
            yield staged
        except BaseException:
            remove_local(staged)
            raise
        deliver(staged, location, last=last, advice=f"what was made lies in {staged}, copy it from there")


def staging_path(location: Location) -> Path:
    """Where what shall be at `location` is built: there, or for a URI in the cache, the same place in every run."""
    if not isinstance(location, Uri):
        return Path(str(location))
    return cache_folder() / "staging" / location.protocol / location.path


def refuse_existing(location: Location, option: str = "--output") -> None:
    """Refuse to write where something is, or into a bucket that is not there.

    Raises:
        VqError: it is so, or a URI cannot be asked.
    """
    if exists(location):
        raise VqError(f"{location} exists already: choose another {option} or remove it.")
    if isinstance(location, Uri) and location.protocol in EXTRAS:
        bucket = location.path.split("/")[0]
        if not exists(Uri(location.protocol, bucket)):
            raise VqError(f"There is no bucket {bucket} for {location}: make it, or choose another {option}.")


def deliver(local: Path, location: Location, *, last: str = "", advice: str) -> Path:
    """Give the finished file or folder `local` its final place: by its name, or at a URI by uploading it.

    Of a folder its content is uploaded, see `content_of`, the file `last` last.

    Args:
        local: built beside the final place, or below `staging_path`.
        location: the final place.
        last: what a reader needs to take a folder for complete.
        advice: what the user is told to do if it cannot be uploaded.

    Returns:
        Where it lies here: the final place, or the cached copy of the URI.

    Raises:
        VqError: the file `last` is at the URI already, or it cannot be written; `local` is left as it is.
    """
    if not isinstance(location, Uri):
        path = Path(str(location))
        publish(local, path)
        return path
    if last:
        refuse_existing(location / last)  # another machine may have been faster
    listing = _upload_all(local, location, last, advice)
    with _locked(location):
        return Mirror(location).adopt(local, listing)


def _upload_all(local: Path, uri: Uri, last: str, advice: str) -> dict[str, RemoteFile]:
    """Upload the files of `local`; what is then at `uri`."""
    files = {"": local} if local.is_file() else content_of(local)
    completing = [(last, files.pop(last))] if last else []
    with _failing_as(uri, "written", advice):
        filesystem, root = _open(uri)
        total = sum(path.stat().st_size for _, path in [*files.items(), *completing])
        with transfer_progress(f"upload {uri}", total) as advance:
            put = partial(_upload, filesystem, root, advance)
            _in_parallel(put, files.items())
            _in_parallel(put, completing)
        filesystem.invalidate_cache()
        listing = _answer(partial(_listing, filesystem, root, uri))
        for name, path in [*files.items(), *completing]:
            if name not in listing or listing[name].size not in (None, path.stat().st_size):
                raise OSError(f"{name or uri.name} is not there as it was sent")
    return listing


def remove(location: Location) -> None:
    """Remove the folder at `location`, of a URI the copy in the cache too.

    Raises:
        VqError: a URI cannot be removed.
    """
    if not isinstance(location, Uri):
        shutil.rmtree(Path(str(location)))
        return
    with _failing_as(location, "removed"):
        filesystem, root = _open(location)
        filesystem.rm(root, recursive=True)
    with _locked(location):
        Mirror(location).remove()


def _open(uri: Uri) -> "tuple[AbstractFileSystem, str]":
    """The filesystem and the path in it, with nothing remembered of earlier listings."""
    from fsspec.core import url_to_fs

    try:
        filesystem, root = url_to_fs(str(uri), **(LIMITS if EXTRAS.get(uri.protocol) == "s3" else {}))
    except ImportError as error:
        extra = EXTRAS.get(uri.protocol)
        how = f"`pip install vq-core[{extra}]`" if extra else str(error)
        raise VqError(f"{uri} needs a package that is not installed: {how}.") from error
    except ValueError as error:
        raise VqError(
            f"{uri} cannot be opened ({error}): give a path, or an address such as s3://…, gs://…."
        ) from error
    if hasattr(filesystem, "retries"):
        filesystem.retries = RETRIES
    filesystem.invalidate_cache()
    return filesystem, root.rstrip("/")


def _listing(filesystem: "AbstractFileSystem", root: str, uri: Uri) -> dict[str, RemoteFile]:
    """The files at `root` by their path below it; `""` is `root` itself, where that is a file."""
    listing = {}
    for path, info in filesystem.find(root, detail=True).items():
        name = path.removeprefix(root).lstrip("/")
        if ".." in PurePosixPath(name).parts:
            raise VqError(f"{uri} holds {name}, which leads out of it: remove it there.")
        if info["type"] == "file" and not path.endswith("/"):
            listing[name] = RemoteFile(path, info.get("size"), _version_of(info))
    return listing


def _answer(ask: Callable[[], Answer], attempts: int = 3) -> Answer:
    """What `ask` says, which is called again where the server fails at once; what takes long has been repeated."""
    begin = time.monotonic()
    try:
        return ask()
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        if attempts == 1 or describe(error) is None or time.monotonic() - begin > SILENCE_S:
            raise
    return _answer(ask, attempts - 1)


def _matches(name: str, only: Sequence[str], without: Sequence[str]) -> bool:
    return any(fnmatchcase(name, it) for it in only) and not any(fnmatchcase(name, it) for it in without)


def _version_of(info: Mapping[str, Any]) -> str | None:
    return next((f"{key} {info[key]}" for key in VERSION_KEYS if info.get(key) is not None), None)


def _download(
    filesystem: "AbstractFileSystem", mirror: Mirror, advance: AdvanceBytes, item: tuple[str, RemoteFile]
) -> None:
    name, file = item
    draft = mirror.draft(name)
    draft.parent.mkdir(parents=True, exist_ok=True)
    _in_time(filesystem, "get_file", file.path, str(draft), advance, file.size or 0)
    if file.size is not None and draft.stat().st_size != file.size:
        raise OSError(f"{file.path} arrived with {draft.stat().st_size} bytes of {file.size}")
    mirror.publish(name, file.version)


def _upload(filesystem: "AbstractFileSystem", root: str, advance: AdvanceBytes, item: tuple[str, Path]) -> None:
    name, path = item
    there = f"{root}/{name}" if name else root
    _in_time(filesystem, "put_file", str(path), there, advance, path.stat().st_size)


def _in_time(
    filesystem: "AbstractFileSystem", method: str, source: str, target: str, advance: AdvanceBytes, size: int
) -> None:
    """Copy `size` bytes with the `filesystem`'s `method`, in a second attempt if the first fails or takes too long."""
    if not filesystem.async_impl:
        getattr(filesystem, method)(source, target, callback=_callback(advance))
        return
    import asyncio

    from fsspec.asyn import sync

    limit = SILENCE_S + size / SLOWEST

    async def bounded() -> None:
        copying = getattr(filesystem, f"_{method}")(source, target, callback=_callback(advance))
        await asyncio.wait_for(copying, limit)

    for attempts_left in (1, 0):
        try:
            sync(filesystem.loop, bounded)
            return
        except TimeoutError:
            if not attempts_left:
                raise OSError(f"{source} did not arrive in twice {limit:.0f} s") from None
        except Exception as error:
            if not attempts_left or is_full_disk(error) or describe(error) is None:
                raise


def _callback(advance: AdvanceBytes) -> Any:
    from fsspec.callbacks import Callback

    class Bytes(Callback):  # type: ignore[misc]  # fsspec is untyped
        def relative_update(self, inc: int = 1) -> None:
            advance(inc)

    return Bytes()


def _in_parallel(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """`work` on every item; the first error ends it, once what is under way has ended."""
    pool = ThreadPoolExecutor(PARALLEL)
    try:
        for done in [pool.submit(work, item) for item in items]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _failing_as(uri: Uri, what: str, advice: str = "") -> Iterator[None]:
    """Turn what fsspec's filesystems raise into one sentence."""
    try:
        yield
    except VqError:
        raise
    except Exception as error:
        if is_full_disk(error):
            raise VqError(
                f"No space is left in {cache_folder()} for {uri}: free some, or set {CACHE_VARIABLE} to a larger disk."
            ) from error
        reason = describe(error)
        if reason is None:
            raise
        raise VqError(f"{uri} could not be {what} ({reason}): {advice or remedy(error, uri.protocol)}.") from error


@contextmanager
def _locked(uri: Uri) -> Iterator[None]:
    """Alone among the processes that use this cache for the same bucket."""
    bucket = uri.path.split("/")[0]
    with alone(cache_folder() / "locks" / uri.protocol / f"{bucket}.lock", f"copies {uri.protocol}://{bucket}"):
        yield
