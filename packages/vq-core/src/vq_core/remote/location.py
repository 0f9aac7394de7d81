"""Locations: paths on this machine, and fsspec URIs such as `s3://bucket/run/stats`.

Only `vq_core.remote.transfer` opens URIs; all other modules pass, join and print them.
"""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vq_core.errors import VqError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LOCAL = ("file", "local")


class Location(Protocol):
    """A `Path` or a `Uri`. `str` gives what the user typed, without a trailing slash."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def parent(self) -> "Location":
        """The location without its last part."""

    def with_name(self, name: str, /) -> "Location":
        """The location with another last part."""

    def __truediv__(self, part: str, /) -> "Location":
        """`part` below this location; an absolute `part` unchanged."""


@dataclass(frozen=True)
class Uri:
    """`protocol://path`, made by `parse_location`. `path` is up to the protocol, such as bucket and key."""

    protocol: str
    path: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> "Uri":
        """The URI without the last part of its path."""
        return Uri(self.protocol, posixpath.dirname(self.path))

    def with_name(self, name: str) -> "Uri":
        """The location with another last part."""
        return self.parent / name

    def __truediv__(self, part: str) -> "Uri":
        path = posixpath.normpath(posixpath.join(self.path, part))
        if path == ".." or path.startswith("../"):
            raise VqError(f"{part} leads out of {self}: give a path that stays in it.")
        return Uri(self.protocol, path)


def parse_location(text: str) -> Location:
    """The path or URI that `text` names; `file://` is a path.

    Raises:
        VqError: `text` is empty, or is a URI with nothing after its protocol or with `..` in its path.
    """
    if not text:
        raise VqError("An empty text is no path: give one.")
    match = _URI.fullmatch(text)
    if match is None:
        return Path(text)
    protocol, path = match[1].lower(), match[2].rstrip("/")
    if not path or ".." in path.split("/"):
        raise VqError(f"{text} is not a whole address: give one such as {protocol}://BUCKET/FOLDER, without `..`.")
    return Path(path) if protocol in _LOCAL else Uri(protocol, path)


@dataclass(frozen=True)
class NamedPath:
    """A path or URI with a name."""

    name: str
    path: Location


def parse_named(text: str, option: str) -> NamedPath:
    """Parse `[NAME=]PATH`, the value of `option`; the default name is the last part of the path.

    Raises:
        VqError: the name or the path is empty.
    """
    name, equals, path = text.partition("=")
    named = bool(equals) and "/" not in name  # a bucket's key may hold `=`
    if not named:
        name, path = "", text
    if not path or (named and not name.strip()):
        raise VqError(f"`{option} {text}` has an empty name or path: write {option} NAME=PATH.")
    location = parse_location(path)
    return NamedPath(name.strip() or location.name or path, location)


def join(folder: Location, text: str) -> Location:
    """The location `text`, where a relative path is relative to `folder`."""
    location = parse_location(text)
    return location if isinstance(location, Uri) or Path(text).is_absolute() else folder / text
