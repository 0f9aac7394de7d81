"""TIFFs, of which Pillow writes few kinds: tifffile writes them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.deep_pixels import deep_pixels, raw_mode, unknown_range
from vq_core.media.images import decode_image

VALUES = np.random.default_rng(0).integers(0, 65536, (8, 6, 4), dtype=np.uint16)
RGB, GRAY = VALUES[..., :3], VALUES[..., 0]


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    content = BytesIO()
    tifffile.imwrite(content, values, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, "RGB;16L"),
        ({"byteorder": ">"}, "RGB;16B"),
        ({"compression": "zlib"}, "RGB;16N"),
        ({"compression": "zlib", "predictor": 2}, "RGB;16N"),
        ({"tile": (16, 16)}, "RGB;16L"),
    ],
)
def test_both_bytes_of_colours_are_kept(options: dict[str, Any], mode: str) -> None:
    content = tiff(RGB, photometric="rgb", **options)
    image = Image.open(BytesIO(content))
    assert raw_mode(image) == mode
    assert unknown_range(image) is None
    assert np.array_equal(deep_pixels(image, content), RGB)
    assert np.array_equal(np.asarray(decode_image(content, Path("kite.tif"))), np.rint(RGB / 257))


def test_alpha_is_kept() -> None:
    content = tiff(VALUES, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(deep_pixels(Image.open(BytesIO(content)), content), VALUES)


@pytest.mark.parametrize(("photometric", "expected"), [("minisblack", GRAY), ("miniswhite", 65535 - GRAY)])
def test_gray_is_kept_with_black_where_it_is(photometric: str, expected: NDArray[np.uint16]) -> None:
    content = tiff(GRAY, photometric=photometric)
    assert np.array_equal(deep_pixels(Image.open(BytesIO(content)), content), expected[..., None])


def test_eight_bits_are_not_deep() -> None:
    content = tiff((RGB >> 8).astype(np.uint8), photometric="rgb")
    assert deep_pixels(Image.open(BytesIO(content)), content) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (tiff(GRAY.astype(np.float32)), "has 32 bits per pixel"),
        (tiff(GRAY.astype(np.uint32)), "has 32 bits per pixel"),
        (tiff((GRAY >> 8).astype(np.int8)), "has signed pixels"),
        (
            tiff(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate"),
            "has 16 bits per channel in an order that cannot be decoded",
        ),
    ],
)
def test_refuses_pixels_of_unknown_range(content: bytes, sentence: str) -> None:
    with pytest.raises(VqError, match=rf"kite\.tif {sentence}.*: save it with 8 bits per channel"):
        decode_image(content, Path("kite.tif"))


def test_refuses_gray_of_a_format_without_a_known_range() -> None:
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 6, "NAXIS2": 8}
    header = "".join(f"{f'{key:8}= {value:>20}':80}" for key, value in cards.items()) + f"{'END':80}"
    content = header.ljust(2880).encode() + GRAY.tobytes()
    with pytest.raises(
        VqError, match=r"kite\.fits is in the format FITS with 16 bits per pixel, whose range is not known"
    ):
        decode_image(content, Path("kite.fits"))
