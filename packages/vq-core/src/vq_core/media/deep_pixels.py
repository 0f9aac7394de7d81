"""Pixels of 16 bits per channel, with both of their bytes: of colours, Pillow keeps the high ones alone."""

import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

LARGEST = 65535
# In these formats Pillow's mode `I;16`, and in the first two `I`, stands for 16 bits of the whole range.
WHOLE_RANGE = ("PNG", "PPM", "TIFF", "JPEG2000")
WHOLE_RANGE_IN_I = WHOLE_RANGE[:2]

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1


def unknown_range(image: "ImageFile") -> str | None:
    """Why it is not known which value of `image`, not decoded yet, is white: a predicate; None if it is known."""
    from PIL.TiffImagePlugin import TiffImageFile

    if image.mode == "F" or (image.mode == "I" and image.format not in WHOLE_RANGE_IN_I):
        return "has 32 bits per pixel, whose range is not known"
    if image.mode.startswith("I;16") and image.format not in WHOLE_RANGE:
        return f"is in the format {image.format} with 16 bits per pixel, whose range is not known"
    if isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
        if any(it != UNSIGNED for it in image.tag_v2.get(SAMPLE_FORMAT, ())):
            return "has signed pixels, whose range is not known"
        if bits > 8 and not (bits == 16 and ";16" in raw_mode(image)):
            return f"has {bits} bits per channel in an order that cannot be decoded"
    return None


def deep_pixels(image: "ImageFile", content: bytes) -> NDArray[np.uint16] | None:
    """Values up to `LARGEST`, upright, [height, width, 1, 3 or 4 channels]; None of a picture of fewer bits.

    `image` was opened from `content` and is not decoded yet.
    """
    from PIL import ImageOps
    from PIL.TiffImagePlugin import TiffImageFile

    channels, _, order = raw_mode(image).partition(";16")
    if image.mode == "I" or image.mode.startswith("I;16"):
        inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)[..., None]
        return LARGEST - values if inverted else values
    if channels not in ("RGB", "RGBA") or not order:
        return None
    high = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
    return high << 8 | np.asarray(ImageOps.exif_transpose(_low_bytes(content, f"{channels};16", order)))


def raw_mode(image: "ImageFile") -> str:
    """How the pixels lie in the file, by Pillow's name, such as `RGB;16B`; `image` is not decoded yet."""
    return _mode_of(image.tile[0].args) if image.tile else ""


def _low_bytes(content: bytes, depth: str, order: str) -> "Image":
    """What Pillow makes of the picture with its bytes taken in the other order: B(ig), L(ittle) or N(ative)."""
    from PIL import Image

    native = "L" if sys.byteorder == "little" else "B"
    swapped = {"B": "L", "L": "B"}[native if order == "N" else order]
    image = Image.open(BytesIO(content))
    image.tile = [tile._replace(args=_with_mode(tile.args, f"{depth}{swapped}")) for tile in image.tile]
    return image


def _mode_of(arguments: tuple[Any, ...] | str | None) -> str:
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _with_mode(arguments: tuple[Any, ...] | str | None, mode: str) -> tuple[Any, ...] | str:
    return (mode, *arguments[1:]) if isinstance(arguments, tuple) else mode
