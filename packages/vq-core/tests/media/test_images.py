from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.utils import load_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.images import open_image, size_of_area


@given(
    st.integers(200, 2000), st.integers(200, 2000), st.integers(4, 40), st.integers(4, 40), st.sampled_from([16, 32])
)
def test_resizes_as_the_reference_computes(width: int, height: int, rows: int, columns: int, multiple: int) -> None:
    area = rows * multiple * columns * multiple
    aspect_ratio = height / width
    expected_height = round(np.sqrt(area * aspect_ratio)) // multiple * multiple
    expected_width = round(np.sqrt(area / aspect_ratio)) // multiple * multiple
    if not expected_height or not expected_width:
        return
    size = size_of_area((width, height), rows * multiple, columns * multiple, multiple)
    assert size == (expected_height, expected_width)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((832, 480), (480, 832)), ((1024, 1024), (624, 624)), ((480, 832), (832, 480)), ((1920, 1080), (464, 832))],
)
def test_sizes_at_480p(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_of_area(size, 480, 832) == expected


@pytest.mark.parametrize("size", [(4000, 2), (2, 4000)])
def test_refuses_an_image_that_is_too_narrow(size: tuple[int, int]) -> None:
    with pytest.raises(VqError, match=f"An image of {size[0]}x{size[1]} pixels cannot fill a 64x64 area"):
        size_of_area(size, 64, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_pictures_upright_as_diffusers_does(tmp_path: Path, orientation: int) -> None:
    image = Image.fromarray(np.arange(6 * 4, dtype=np.uint8).reshape(4, 6) * 10)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    assert open_image(tmp_path / "turned.png") == load_image(str(tmp_path / "turned.png"))


RED, GREEN = (200, 10, 20), (0, 250, 0)
COLUMN = np.array([0, 255, 0x80FF, 0xFFFF], np.uint16)  # of 16 bits: black, almost black, half, white


def composed(value: int, alpha: int) -> float:
    return value * alpha / 255 + 255 * (1 - alpha / 255)


def row_of(mode: str, *pixels: tuple[int, ...]) -> Image.Image:
    return Image.frombytes(mode, (len(pixels), 1), bytes(value for pixel in pixels for value in pixel))


def palette() -> Image.Image:
    image = row_of("P", (0,), (1,), (2,))
    image.putpalette([*RED, *GREEN, 0, 0, 90])
    return image


def sixteen_bits(order: str) -> Image.Image:
    return Image.fromarray(COLUMN[None].astype(order))


GRAY_OF_COLUMN = [(round(value / 257),) * 3 for value in COLUMN.tolist()]


@pytest.mark.parametrize(
    ("image", "ending", "save", "expected"),
    [
        (sixteen_bits("<u2"), "png", {}, GRAY_OF_COLUMN),
        (sixteen_bits("<u2"), "tif", {}, GRAY_OF_COLUMN),
        (sixteen_bits(">u2"), "tif", {}, GRAY_OF_COLUMN),
        (sixteen_bits("<u2"), "pgm", {}, GRAY_OF_COLUMN),
        (sixteen_bits("<u2"), "png", {"transparency": 0}, [(255,) * 3, *GRAY_OF_COLUMN[1:]]),
        (row_of("LA", (40, 255), (40, 100), (40, 0)), "png", {}, [(composed(40, a),) * 3 for a in (255, 100, 0)]),
        (
            row_of("RGBA", (*RED, 255), (*RED, 77), (*RED, 0)),
            "png",
            {},
            [tuple(composed(value, alpha) for value in RED) for alpha in (255, 77, 0)],
        ),
        (
            palette(),
            "png",
            {"transparency": bytes([255, 100, 0])},
            [RED, tuple(composed(value, 100) for value in GREEN), (255,) * 3],
        ),
        (row_of("RGB", RED, GREEN), "png", {"transparency": GREEN}, [RED, (255,) * 3]),
        (row_of("L", (7,), (9,)), "png", {"transparency": 9}, [(7,) * 3, (255,) * 3]),
        (
            row_of("CMYK", (0, 255, 55, 0), (0, 0, 0, 155), (100, 0, 0, 55)),
            "tif",
            {},
            [tuple((255 - ink) * (255 - key) / 255 for ink in inks) for *inks, key in
             [(0, 255, 55, 0), (0, 0, 0, 155), (100, 0, 0, 55)]],
        ),
    ],
)  # fmt: skip
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, image: Image.Image, ending: str, save: dict[str, Any], expected: list[tuple[float, ...]]
) -> None:
    path = tmp_path / f"kite.{ending}"
    image.save(path, **save)
    opened = open_image(path)
    assert opened.mode == "RGB"
    exact = image.mode.startswith("I;16") or ("transparency" in save and image.mode != "P")
    assert np.allclose(np.asarray(opened)[0], expected, rtol=0, atol=0 if exact else 1)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_refuses_pixels_of_unknown_range(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "kite.tif")
    with pytest.raises(
        VqError, match=r"kite\.tif has 32 bits per pixel, whose range is not known: save it with 8 bits"
    ):
        open_image(tmp_path / "kite.tif")


@pytest.mark.parametrize("limit", [15, 7])  # Pillow warns beyond its limit, and raises beyond twice of it
def test_refuses_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "kite.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(VqError, match=rf"kite\.png has more than {limit} pixels: scale it down"):
        open_image(tmp_path / "kite.png")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_refuses_a_truncated_image(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"kite.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(VqError, match="is not an image that can be decoded"):
        open_image(path)


def test_refuses_an_image_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "kite.png").touch()
    monkeypatch.setattr(Path, "read_bytes", forbidden)  # root may read everything
    with pytest.raises(VqError, match=r"kite\.png cannot be read .*Permission denied.*: check its permissions"):
        open_image(tmp_path / "kite.png")
