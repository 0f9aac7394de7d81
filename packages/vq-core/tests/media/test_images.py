from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.images import open_image, resize_to_area


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
    resized = resize_to_area(Image.new("RGB", (width, height)), rows * multiple, columns * multiple, multiple)
    assert resized.size == (expected_width, expected_height)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((832, 480), (832, 480)), ((1024, 1024), (624, 624)), ((480, 832), (480, 832)), ((1920, 1080), (832, 464))],
)
def test_sizes_at_480p(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_to_area(Image.new("RGB", size), 480, 832).size == expected


def test_an_image_of_the_right_size_is_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(resize_to_area(Image.fromarray(pixels), 48, 64)), pixels)


@pytest.mark.parametrize("size", [(4000, 2), (2, 4000)])
def test_refuses_an_image_that_is_too_narrow(size: tuple[int, int]) -> None:
    with pytest.raises(VqError, match=f"An image of {size[0]}x{size[1]} pixels cannot fill a 64x64 area"):
        resize_to_area(Image.new("RGB", size), 64, 64)


def test_opens_upright_and_as_rgb(tmp_path: Path) -> None:
    image = Image.new("L", (6, 4), 10)
    exif = image.getexif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    opened = open_image(tmp_path / "turned.jpg")
    assert (opened.size, opened.mode) == ((4, 6), "RGB")


def test_refuses_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"kite\.png is missing"):
        open_image(tmp_path / "kite.png")


def test_refuses_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "kite.png").write_text("kite")
    with pytest.raises(VqError, match=r"kite\.png is not an image that can be decoded"):
        open_image(tmp_path / "kite.png")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_refuses_a_truncated_image(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"kite.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(VqError, match="is not an image that can be decoded"):
        open_image(path)
