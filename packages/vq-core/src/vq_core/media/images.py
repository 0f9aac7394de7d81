"""Images that a video starts from: opening them checked, and resizing them as Wan's reference does."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from vq_core.errors import VqError

if TYPE_CHECKING:
    from PIL.Image import Image


def open_image(path: Path) -> "Image":
    """Decode `path` wholly, turned upright by its EXIF orientation, as RGB.

    Raises:
        VqError: the file is missing, or is not an image that Pillow can decode.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise VqError(f"The image {path} is missing: put it there or correct the path.")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise VqError(f"{path} is not an image that can be decoded ({error}): give a PNG, JPEG or WebP.") from error


def resize_to_area(image: "Image", height: int, width: int, multiple: int = 16) -> "Image":
    """Resize to about height x width pixels in all, see `size_of_area`."""
    from PIL import Image

    new_height, new_width = size_of_area(image, height, width, multiple)
    return image.resize((new_width, new_height), Image.Resampling.BICUBIC)


def resize_to_cover(image: "Image", height: int, width: int) -> "Image":
    """Resize to cover height x width pixels, and cut off evenly what sticks out: how a last frame meets the first."""
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def size_of_area(image: "Image", height: int, width: int, multiple: int = 16) -> tuple[int, int]:
    """Height and width of about height x width pixels in all, in the image's aspect, each floored to `multiple`.

    The rule of Wan's reference: with a = image height / image width, the new height is
    round(sqrt(height * width * a)) and the new width round(sqrt(height * width / a)), both floored to `multiple`.

    Raises:
        VqError: the image is so narrow or so flat that a side would have no pixel left.
    """
    area, aspect = height * width, image.height / image.width
    new_height = round(math.sqrt(area * aspect)) // multiple * multiple
    new_width = round(math.sqrt(area / aspect)) // multiple * multiple
    if not new_height or not new_width:
        raise VqError(
            f"An image of {image.width}x{image.height} pixels cannot fill a {width}x{height} area in multiples of "
            f"{multiple}: crop it to a squarer shape or raise height and width."
        )
    return new_height, new_width
