"""A picture, painted in floating point and read as 8-bit RGB: gradients, noise, shapes with soft edges, light."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Color = tuple[int, int, int]
Point = tuple[float, float]

OVERSAMPLING = 2  # shapes are drawn larger and scaled down, which smooths their edges


class Canvas:
    """`pixels` are `[height, width, 3]`, 0 to 255; places are shares of width and height, from the upper left."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        self.width, self.height = width, height
        self.rng = np.random.default_rng(seed)
        self.pixels = np.zeros((height, width, 3))

    def image(self) -> Image.Image:
        return Image.fromarray(np.rint(self.pixels.clip(0, 255)).astype(np.uint8))

    # --- over the whole picture -----------------------------------------------------------------

    def gradient(self, *colors: Color, top: float = 0.0, bottom: float = 1.0) -> None:
        """From color to color, downwards between `top` and `bottom`."""
        first, last = round(top * self.height), round(bottom * self.height)
        steps = np.linspace(0, len(colors) - 1, max(last - first, 1))
        table = np.array(colors, dtype=float)
        band = np.stack([np.interp(steps, np.arange(len(colors)), table[:, channel]) for channel in range(3)], axis=-1)
        self.pixels[first:last] = band[: last - first, None]

    def noise(self, cells: int, octaves: int = 4, stretch: float = 1.0) -> NDArray[np.float64]:
        """Smooth noise in 0 to 1, `[height, width]`, of about `cells` across; `stretch` widens it."""
        total = np.zeros((self.height, self.width))
        for octave in range(octaves):
            across = max(2, round(cells * 2**octave / stretch))
            down = max(2, round(cells * 2**octave * self.height / self.width))
            grid = self.rng.random((down, across)).astype(np.float32)
            fine = Image.fromarray(grid).resize((self.width, self.height), Image.Resampling.BICUBIC)
            total += np.asarray(fine, dtype=float) / 2**octave
        low, high = total.min(), total.max()
        return (total - low) / (high - low)

    def blend(self, mask: NDArray[np.float64], color: Color | NDArray[np.float64]) -> None:
        """Lay `color` over the picture where `mask`, 0 to 1, says so."""
        share = mask[..., None].clip(0, 1)
        self.pixels = self.pixels * (1 - share) + np.asarray(color, dtype=float) * share

    def clouds(self, color: Color, cover: float = 0.5, below: float = 1.0, cells: int = 4) -> None:
        rows = np.linspace(0, 1, self.height)[:, None]
        fading = ((below - rows) / max(below, 1e-6)).clip(0, 1) ** 0.5
        self.blend((self.noise(cells, 5, stretch=2.0) - 1 + cover).clip(0) / cover * 1.6 * fading, color)

    def texture(self, strength: float, cells: int = 60) -> None:
        """Make everything a little uneven, as surfaces are."""
        self.pixels *= 1 + strength * (self.noise(cells, 3)[..., None] - 0.5)

    # --- shapes ---------------------------------------------------------------------------------

    def _mask(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", (self.width * OVERSAMPLING, self.height * OVERSAMPLING))
        return mask, ImageDraw.Draw(mask)

    def _lay(self, mask: Image.Image, color: Color, soft: float, shade: float) -> None:
        """Lay `color` where `mask` is; only the part around it is touched, for a skyline has a thousand windows."""
        touched = mask.getbbox()
        if touched is None:
            return
        margin = 3 * soft * self.height + 1
        left, top = (max(0, int(edge / OVERSAMPLING - margin)) for edge in touched[:2])
        right = min(self.width, int(touched[2] / OVERSAMPLING + margin + 1))
        bottom = min(self.height, int(touched[3] / OVERSAMPLING + margin + 1))
        part = mask.crop((left * OVERSAMPLING, top * OVERSAMPLING, right * OVERSAMPLING, bottom * OVERSAMPLING))
        small = part.resize((right - left, bottom - top), Image.Resampling.BOX)
        if soft:
            small = small.filter(ImageFilter.GaussianBlur(soft * self.height))
        share = np.asarray(small, dtype=float)[..., None] / 255
        # Lighter above, darker below, as under the sky.
        light = np.linspace(1 + shade, 1 - shade, bottom - top)[:, None, None]
        below = self.pixels[top:bottom, left:right]
        self.pixels[top:bottom, left:right] = below * (1 - share) + light * np.asarray(color, dtype=float) * share

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.width * OVERSAMPLING, y * self.height * OVERSAMPLING) for x, y in points]

    def polygon(self, points: Sequence[Point], color: Color, soft: float = 0.0, shade: float = 0.0) -> None:
        mask, pen = self._mask()
        pen.polygon(self._scaled(points), fill=255)
        self._lay(mask, color, soft, shade)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, color: Color, soft: float = 0.0, shade: float = 0.0
    ) -> None:
        """Around (x, y); `rx` and `ry` are shares of the height, so that equal ones give a circle."""
        mask, pen = self._mask()
        (center,) = self._scaled([(x, y)])
        a, b = (radius * self.height * OVERSAMPLING for radius in (rx, ry))
        pen.ellipse((center[0] - a, center[1] - b, center[0] + a, center[1] + b), fill=255)
        self._lay(mask, color, soft, shade)

    def line(self, points: Sequence[Point], color: Color, width: float, soft: float = 0.0) -> None:
        """`width` is a share of the height."""
        mask, pen = self._mask()
        thickness = max(1, round(width * self.height * OVERSAMPLING))
        pen.line(self._scaled(points), fill=255, width=thickness, joint="curve")
        self._lay(mask, color, soft, 0.0)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, shade: float = 0.0) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color, shade=shade)

    def ridge(self, base: float, height: float, color: Color, cells: int = 5, soft: float = 0.0) -> None:
        """A skyline of hills: at most `height` above `base`, down to the lower edge."""
        profile = self.noise(cells, 5)[self.height // 2]
        xs = np.linspace(0, 1, self.width)
        top = [(float(x), float(base - height * h)) for x, h in zip(xs, profile, strict=True)]
        self.polygon([*top, (1, 1), (0, 1)], color, soft=soft, shade=0.15)

    def text(self, words: str, x: float, y: float, size: float, color: Color, glow: float = 0.0) -> None:
        """`words` around (x, y) in letters of `size`, a share of the height; with `glow`, as light."""
        mask, pen = self._mask()
        font = ImageFont.load_default(size * self.height * OVERSAMPLING)
        pen.text(self._scaled([(x, y)])[0], words, fill=255, font=font, anchor="mm", align="center")
        if glow:
            self._lay(mask, color, glow, 0.0)
        self._lay(mask, color, 0.0, 0.0)

    # --- light ----------------------------------------------------------------------------------

    def glow(self, x: float, y: float, radius: float, color: Color, strength: float = 1.0) -> None:
        """Light around (x, y) that falls off over `radius`, a share of the height."""
        reach = 2.5 * radius * self.height
        x, y = x * self.width, y * self.height
        left, right = max(0, int(x - reach)), min(self.width, int(x + reach) + 1)
        top, bottom = max(0, int(y - reach)), min(self.height, int(y + reach) + 1)
        if left >= right or top >= bottom:
            return
        rows, columns = np.mgrid[top:bottom, left:right]
        distance = np.hypot(columns - x, rows - y) / (radius * self.height)
        light = strength * np.exp(-(distance**2) * 2)[..., None] * np.asarray(color, dtype=float)
        self.pixels[top:bottom, left:right] += light

    def vignette(self, strength: float) -> None:
        rows, columns = np.mgrid[-1 : 1 : self.height * 1j, -1 : 1 : self.width * 1j]
        self.pixels *= (1 - strength * (rows**2 + columns**2) / 2)[..., None]

    def reflect(self, horizon: float, water: Color, share: float = 0.55) -> None:
        """Below `horizon`, water that mirrors what is above it, broken by small waves."""
        line = round(horizon * self.height)
        depth = self.height - line
        ripple = np.rint(3 * np.sin(np.arange(depth) * 0.7) * np.linspace(0.3, 2, depth)).astype(int)
        for row in range(depth):
            source = max(0, line - 1 - row * line // max(depth, 1))
            mirrored = np.roll(self.pixels[source], ripple[row], axis=0)
            self.pixels[line + row] = mirrored * share + np.asarray(water, dtype=float) * (1 - share)
