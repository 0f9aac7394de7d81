import struct
import zlib
from contextlib import suppress
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


def png(colour: int, depth: int, width: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one row, of kinds that Pillow does not write; `colour` 0 is gray, 2 RGB, 6 RGBA."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    whole = (header, *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in whole
    )


DEEP = (0x00FF, 0x80FF, 0xFFFF)  # of the first, Pillow keeps 0, and 1 is nearest
DEEP_RGB = tuple(round(value / 257) for value in DEEP)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(2, 16, 2, struct.pack(">6H", *DEEP, *DEEP[::-1])), [DEEP_RGB, DEEP_RGB[::-1]]),
        (
            png(2, 16, 2, struct.pack(">6H", *DEEP, 9, 9, 9), (b"tRNS", struct.pack(">3H", 9, 9, 9))),
            [DEEP_RGB, (255,) * 3],
        ),
        (
            png(6, 16, 3, struct.pack(">12H", *DEEP, 65535, *DEEP, 0x4000, *DEEP, 0)),
            [DEEP_RGB, [round(composed(value / 257, 0x4000 / 257)) for value in DEEP], (255,) * 3],
        ),
        (png(0, 2, 4, b"\x1b", (b"tRNS", b"\0\1")), [(value,) * 3 for value in (0, 255, 170, 255)]),
        (png(0, 4, 2, b"\x5f", (b"tRNS", b"\0\5")), [(255,) * 3, (255,) * 3]),
        (png(0, 1, 2, b"\x80", (b"tRNS", b"\0\0")), [(255,) * 3, (255,) * 3]),
    ],
)
def test_every_depth_of_a_png_is_scaled_and_composed_exactly(
    tmp_path: Path, content: bytes, expected: list[tuple[int, ...]]
) -> None:
    (tmp_path / "kite.png").write_bytes(content)
    assert np.array_equal(np.asarray(open_image(tmp_path / "kite.png"))[0], expected)


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


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "avif", "tif", "gif"])
def test_whatever_is_wrong_in_an_image_is_told_in_a_sentence(tmp_path: Path, ending: str) -> None:
    image, path = Image.linear_gradient("L").resize((64, 48)).convert("RGB"), tmp_path / f"kite.{ending}"
    exif = image.getexif()
    exif[0x010F] = "maker"
    image.save(path, exif=exif)
    content = path.read_bytes()
    damage = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[damage.integers(min(len(content), 400), size=5)] ^= damage.integers(1, 256, 5, dtype=np.uint8)
        path.write_bytes(damaged.tobytes())
        with suppress(VqError):  # damage beside the pixels may pass
            open_image(path)


def test_a_flipped_bit_in_a_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kite.png"
    Image.linear_gradient("L").save(path, compress_level=0)  # no flip makes it undecodable
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VqError, match=r"kite\.png is not an image that can be decoded \(.*checksum"):
        open_image(path)


def test_the_first_frame_of_what_moves_is_taken_whatever_the_name(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), GREEN)
    for kind, options in (("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        first.save(tmp_path / "kite.jpg", format=kind, save_all=True, append_images=[second], **options)
        assert open_image(tmp_path / "kite.jpg").getpixel((3, 3)) == RED


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
    def forbidden(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "kite.png").touch()
    monkeypatch.setattr(Path, "open", forbidden)  # root may read everything
    with pytest.raises(VqError, match=r"kite\.png cannot be read .*Permission denied.*: check its permissions"):
        open_image(tmp_path / "kite.png")
