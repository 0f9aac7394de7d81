"""Pictures: decoded and checked, and resized as Wan's reference does."""

import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_core.files.given_file import read_given
from vq_core.media.deep_pixels import LARGEST, deep_pixels, raw_mode, unknown_range

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Pillow scales gray pixels of 2 or 4 bits to 8 by these, and not the one that a PNG declares transparent.
LEVEL_OF_BITS = {"L;2": 85, "L;4": 17}
MAX_BYTES = 256 << 20
ROWS_AT_ONCE = 256  # of 16 bits, which take eight times the memory while they are scaled


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
    try:
        return read_given(path, MAX_BYTES)
    except FileNotFoundError:
        raise VqError(f"The image {path} is missing: put it there or correct the path.") from None
    except OSError as error:
        raise VqError(f"{path} cannot be read ({error}): check its permissions.") from error


def decode_image(content: bytes, path: Path) -> "Image":
    """Decode `content`, which was read from `path`, to RGB with 8 bits per channel.

    Like diffusers' `load_image`: the first frame, turned upright by its EXIF orientation, without regard to a colour
    profile. Unlike there, transparent pixels are composed onto white, and values of 16 bits are scaled,
    round(value / 257), where Pillow would clip gray ones at 255 and cut colours to their high byte.

    Raises:
        VqError: Pillow cannot decode it, a checksum in it is wrong, the range of its pixels is not known, such as that
            of floats, or it is larger than Pillow takes for harmless.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd beside the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _opened(content) as image:
                if problem := unknown_range(image):
                    raise VqError(f"{path} {problem}: save it with 8 bits per channel.")
                values = deep_pixels(image, content)
                return _as_rgb(image) if values is None else _from_16_bits(values, image.info.get("transparency"))
    except VqError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise VqError(f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down.") from None
    except Exception as error:  # damage makes Pillow's decoders raise errors of every kind
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise VqError(f"{path} is not an image that can be decoded ({reason}): give a PNG, JPEG or WebP.") from error


def _opened(content: bytes) -> "ImageFile":
    """`content` as a picture that is not decoded yet; the checksums of a PNG, which decoding skips, are right."""
    from PIL import Image

    image = Image.open(BytesIO(content))
    if image.format != "PNG":
        return image
    image.verify()
    return Image.open(BytesIO(content))  # what was verified cannot be decoded


def _as_rgb(image: "ImageFile") -> "Image":
    from PIL import Image, ImageOps

    key = image.info.get("transparency")
    if isinstance(key, int):
        image.info["transparency"] = key * LEVEL_OF_BITS.get(raw_mode(image), 1)
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")


def _from_16_bits(values: NDArray[np.uint16], key: int | tuple[int, ...] | None) -> "Image":
    """`values`, see `deep_pixels`, of which those that equal `key` are transparent."""
    from PIL import Image

    bands = range(0, len(values), ROWS_AT_ONCE)
    return Image.fromarray(np.concatenate([_to_8_bits(values[row : row + ROWS_AT_ONCE], key) for row in bands]))


def _to_8_bits(values: NDArray[np.uint16], key: int | tuple[int, ...] | None) -> NDArray[np.uint8]:
    colours = values[..., :3].astype(np.float64)
    if values.shape[-1] == 4:
        colours = LARGEST - (LARGEST - colours) * (values[..., 3:] / LARGEST)
    elif key is not None:
        colours[(colours == key).all(axis=-1)] = LARGEST
    pixels = np.rint(colours / 257).astype(np.uint8)
    return np.repeat(pixels, 3 // pixels.shape[-1], axis=-1)


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
