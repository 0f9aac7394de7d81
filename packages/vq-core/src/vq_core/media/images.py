"""Pictures: decoded and checked, and resized as Wan's reference does."""

import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vq_core.errors import VqError

if TYPE_CHECKING:
    from PIL.Image import Image

# In these formats Pillow's 32-bit mode `I` stands for 16 bits per pixel, of the whole range.
SIXTEEN_BITS_IN_I = ("PNG", "PPM")


def open_image(path: Path) -> "Image":
    """Decode the picture at `path` wholly, see `decode_image`.

    Raises:
        VqError: the file is missing, or see `decode_image`.
    """
    return decode_image(read_image(path), path)


def read_image(path: Path) -> bytes:
    """The bytes of the picture at `path`, not decoded yet.

    Raises:
        VqError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise VqError(f"The image {path} is missing: put it there or correct the path.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise VqError(f"{path} cannot be read ({error}): check its permissions.") from error


def decode_image(content: bytes, path: Path) -> "Image":
    """Decode `content`, which was read from `path`, to RGB with 8 bits per channel.

    Like diffusers' `load_image`, turned upright by its EXIF orientation. Unlike there, transparent pixels are composed
    onto white, and gray values of 16 bits are scaled, round(value / 257), where Pillow would clip them at 255.

    Raises:
        VqError: Pillow cannot decode it, its pixels are floats or 32-bit integers, whose range is not known, or it is
            larger than Pillow takes for harmless.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content)) as image:
                if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BITS_IN_I):
                    raise VqError(
                        f"{path} has 32 bits per pixel, whose range is not known: save it with 8 bits per channel."
                    )
                return _as_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise VqError(f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down.") from None
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise VqError(f"{path} is not an image that can be decoded ({reason}): give a PNG, JPEG or WebP.") from error


def _as_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        pixels = np.rint(values / 257)
        if "transparency" in image.info:
            pixels[values == image.info["transparency"]] = 255
        return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def resize_to_cover(image: "Image", height: int, width: int) -> "Image":
    """Resize to cover height x width pixels, and cut off evenly what sticks out: how a last frame meets the first."""
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def size_of_area(size: tuple[int, int], height: int, width: int, multiple: int = 16) -> tuple[int, int]:
    """Height and width of about height x width pixels in all, in the aspect of `size`, each floored to `multiple`.

    The rule of Wan's reference: with a = image height / image width, the new height is
    round(sqrt(height * width * a)) and the new width round(sqrt(height * width / a)), both floored to `multiple`.

    Args:
        size: width and height of the picture, as Pillow gives them.
        height: of the area.
        width: of the area.
        multiple: of which the sides are.

    Raises:
        VqError: the picture is so narrow or so flat that a side would have no pixel left.
    """
    area, aspect = height * width, size[1] / size[0]
    new_height = round(math.sqrt(area * aspect)) // multiple * multiple
    new_width = round(math.sqrt(area / aspect)) // multiple * multiple
    if not new_height or not new_width:
        raise VqError(
            f"An image of {size[0]}x{size[1]} pixels cannot fill a {width}x{height} area in multiples of "
            f"{multiple}: crop it to a squarer shape or raise height and width."
        )
    return new_height, new_width
