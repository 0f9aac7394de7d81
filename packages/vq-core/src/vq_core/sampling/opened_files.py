"""Pictures and videos that were opened: what later stages ask of a file without decoding it again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_core.files.tensor_file import sha256_of
from vq_core.media.images import decode_image, read_image
from vq_core.media.video import read_video

if TYPE_CHECKING:
    from PIL.Image import Image

BYTES_PER_PIXEL = 3


@dataclass(frozen=True)
class OpenedFile:
    """A picture or a video that was decoded once.

    Attributes:
        path: its file.
        digest: SHA-256 of the bytes that were decoded.
        size: width and height in pixels, upright.
        length: frames of a video; None for a picture.
        kept: the picture; None for a video, and for a picture beyond the budget.
    """

    path: Path
    digest: str
    size: tuple[int, int]
    length: int | None
    kept: "Image | None"

    @property
    def nbytes(self) -> int:
        """Memory that is taken by what was kept."""
        return 0 if self.kept is None else _nbytes(self.kept)

    def image(self) -> "Image":
        """The picture, RGB; decoded again if it was not kept.

        Raises:
            VqError: it was not kept, and its file has changed.
        """
        if self.kept is not None:
            return self.kept
        content = read_image(self.path)
        self._require_unchanged(hashlib.sha256(content).hexdigest())
        return decode_image(content, self.path)

    def video(self) -> NDArray[np.uint8]:
        """The frames of the video, decoded again: uint8 RGB [frames, height, width, 3].

        Raises:
            VqError: its file has changed.
        """
        frames = read_video(self.path)
        self._require_unchanged(sha256_of(self.path))
        return frames

    def _require_unchanged(self, digest: str) -> None:
        if digest != self.digest:
            raise VqError(f"{self.path} was changed after the prompts were read: run the command again.")


def open_picture(path: Path, budget: int) -> OpenedFile:
    """Decode the picture at `path`; keep it if it takes at most `budget` bytes.

    Raises:
        VqError: the file is missing, or is no picture.
    """
    content = read_image(path)
    image = decode_image(content, path)
    kept = image if _nbytes(image) <= budget else None
    return OpenedFile(path, hashlib.sha256(content).hexdigest(), image.size, length=None, kept=kept)


def open_video(path: Path) -> OpenedFile:
    """Decode the video at `path` to check it; its frames are not kept.

    Raises:
        VqError: the file is missing, or is no video.
    """
    length, height, width, _ = read_video(path).shape
    return OpenedFile(path, sha256_of(path), (width, height), length, kept=None)


def _nbytes(image: "Image") -> int:
    return image.width * image.height * BYTES_PER_PIXEL
