"""What kind of file it is, told by its content: a new kind of file in an input is met without being listed anywhere."""

import json
from enum import Enum
from pathlib import Path


class Kind(Enum):
    """Kinds of files that have mutations of their own; any other file has only those of bytes and of entries."""

    JSON = "JSON"
    YAML = "YAML"
    SAFETENSORS = "safetensors"
    PICTURE = "picture"
    VIDEO = "video"
    ZIP = "zip"
    TEXT = "text"
    UNKNOWN = "unknown"


_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def kind_of(path: Path) -> Kind:
    """The kind of the file at `path`."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(_PICTURES):
        return Kind.PICTURE
    if head.startswith(b"\x1a\x45\xdf\xa3") or head[4:8] == b"ftyp":
        return Kind.VIDEO
    if head.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return Kind.SAFETENSORS
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return Kind.UNKNOWN
    if "\0" in text:
        return Kind.UNKNOWN
    try:
        json.loads(text)
    except ValueError:
        return Kind.YAML if path.suffix in (".yaml", ".yml") else Kind.TEXT
    return Kind.JSON
