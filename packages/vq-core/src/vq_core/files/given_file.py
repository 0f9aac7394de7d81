"""A file that somebody has given or named: checked before it is opened, because opening some things never ends."""

import errno
import stat
from pathlib import Path, PurePosixPath

from vq_core.errors import VqError

MAX_BYTES = 32 << 20  # of a text: parsed, JSON takes up to 24 times as much
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_there(path: Path) -> bool:
    """Has anything the name `path`? What may be absent is looked for with this: what cannot be read is not absent.

    Raises:
        OSError: the system does not say.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_file(path: Path) -> None:
    """Refuse `path` if it is anything but a file or a link to one.

    Raises:
        VqError: it is a folder, a pipe, a socket, a device, or a link that leads nowhere; or it holds a null character.
        FileNotFoundError: there is nothing.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        if path.is_symlink():
            raise VqError(
                f"{path} is a link to {path.readlink()}, which is missing: get that again or mend the link."
            ) from None
        raise
    except ValueError:  # the system takes no null character
        raise VqError(f"{str(path)!r} holds a null character, which no path can: correct it.") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise VqError(f"{path} is a link that leads back to itself: put the file there.") from None
    if kind != stat.S_IFREG:
        raise VqError(f"{path} is {_KINDS.get(kind, 'no file')}, and a file is needed there: give one.")


def read_given(path: Path, at_most: int = MAX_BYTES) -> bytes:
    """The content of a file that is read as a whole, such as a text or a picture.

    Raises:
        VqError: see `require_file`; or it is larger than `at_most` bytes.
        OSError: it is missing or cannot be read.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(at_most + 1)  # what the system makes has no size beforehand
    except OSError as error:
        error.filename = str(path)  # which a failed read does not say
        raise
    if len(content) > at_most:
        raise VqError(f"{path} is larger than {at_most >> 20} MiB: give the right file.")
    return content


def is_inside(name: str) -> bool:
    """Is `name` a path that stays in the folder that it is relative to?

    Only the path itself is looked at: a file in a folder may be a link, as all are in the cache of Hugging Face's hub.
    """
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name
