"""One prompt of a set, and how its picture comes about."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from prompt_sets.canvas import Canvas

NEGATIVE = "blurred, static, low quality, deformed hands, extra limbs, subtitles"
NEGATIVE_ZH = "模糊，静止，画质差，手部畸形，多余的肢体，字幕"

WIDE, TALL, SQUARE, FLAT, PHOTO = (640, 368), (368, 640), (480, 480), (704, 320), (576, 432)


@dataclass(frozen=True)
class Drawn:
    """A picture that `paint` puts on a canvas of `size` (width, height)."""

    name: str
    size: tuple[int, int]
    paint: Callable[[Canvas], None]
    prompt: str
    negative: str = NEGATIVE

    def picture(self, seed: int) -> Image.Image:
        canvas = Canvas(*self.size, seed)
        self.paint(canvas)
        return canvas.image()


@dataclass(frozen=True)
class Photo:
    """A photograph among scikit-image's data that its authors gave to the public domain; `crop` as Pillow has it."""

    name: str
    file: str
    prompt: str
    crop: tuple[int, int, int, int] | None = None
    negative: str = NEGATIVE

    def picture(self, seed: int) -> Image.Image:
        from skimage.data import data_dir

        with Image.open(f"{data_dir}/{self.file}") as image:
            return image.convert("RGB").crop(self.crop)


Entry = Drawn | Photo
