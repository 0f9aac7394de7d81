"""A seal at the end of a video file: the SHA-256 of all bytes before it, in an element that players skip.

H.264 in MP4 has no checksums, so a flipped bit may only change the picture. FFV1 has one for each slice, but none for
what Matroska says around them.
"""

import hashlib
from pathlib import Path

MARK = b"vq-sha256:"
SEAL_BYTES = len(MARK) + 64
CHUNK_BYTES = 1 << 20

# What announces an element of SEAL_BYTES without a meaning: MP4's box `free`, Matroska's `Void`.
ANNOUNCED = {
    ".mp4": (8 + SEAL_BYTES).to_bytes(4, "big") + b"free",
    ".mkv": bytes([0xEC, 0x80 | SEAL_BYTES]),
}


def seal(path: Path) -> None:
    """Append a seal to the `.mp4` or `.mkv` at `path`."""
    with path.open("ab") as file:
        file.write(ANNOUNCED[path.suffix.lower()])
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(MARK + _digest(path, size))


def is_broken(path: Path) -> bool:
    """Whether the file at `path` ends in a seal that is not that of its content; False for a file without one."""
    size = path.stat().st_size - SEAL_BYTES
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        found = file.read()
    return found.startswith(MARK) and found != MARK + _digest(path, size)


def _digest(path: Path, size: int) -> bytes:
    """SHA-256 of the first `size` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size and (chunk := file.read(min(size, CHUNK_BYTES))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest().encode()
