"""Scenes with people, animals, machines, things close by, writing, and drawings."""

from itertools import pairwise

import numpy as np

from prompt_sets.canvas import Canvas, Color

Skin: Color = (215, 165, 130)
Dark: Color = (30, 26, 30)


def person(c: Canvas, x: float, foot: float, size: float, clothes: Color, swing: float, skin: Color = Skin) -> None:
    """A figure of `size` (share of the height), standing at `foot`; `swing` moves arms and legs apart."""
    w = size * c.height / c.width  # widths are shares of the width
    hip, neck = foot - 0.48 * size, foot - 0.82 * size
    for side in (-1, 1):
        c.line([(x, hip), (x + side * swing * 0.22 * w, foot)], (45, 50, 75), 0.075 * size)
        c.line([(x, neck + 0.04 * size), (x - side * swing * 0.3 * w, neck + 0.3 * size)], clothes, 0.055 * size)
    c.polygon(
        [(x - 0.11 * w, neck), (x + 0.11 * w, neck), (x + 0.09 * w, hip), (x - 0.09 * w, hip)], clothes, shade=0.2
    )
    c.ellipse(x, neck - 0.08 * size, 0.065 * size, 0.085 * size, skin, shade=0.15)
    c.ellipse(x, neck - 0.13 * size, 0.067 * size, 0.05 * size, (50, 35, 28))


def people(c: Canvas, ground: Color, back: tuple[Color, ...], clothes: tuple[Color, ...], swing: float = 0.7) -> None:
    c.gradient(*back, bottom=0.72)
    c.gradient(ground, (ground[0] * 2 // 3, ground[1] * 2 // 3, ground[2] * 2 // 3), top=0.7)
    for index, color in enumerate(clothes):
        x = (index + 0.7) / (len(clothes) + 0.4)
        size = float(c.rng.uniform(0.5, 0.62))
        c.ellipse(x, 0.9, 0.14, 0.02, (0, 0, 0), soft=0.015)
        person(c, x, 0.9, size, color, swing * float(c.rng.choice([-1, 1])))
    c.texture(0.1)


def crowd(c: Canvas, back: tuple[Color, ...], count: int = 60) -> None:
    c.gradient(*back)
    for near in np.sort(c.rng.random(count)):
        red, green, blue = map(int, c.rng.integers(60, 230, 3))
        skin = (int(c.rng.integers(110, 235)), int(c.rng.integers(90, 180)), int(c.rng.integers(70, 140)))
        place, size = 0.6 + 0.45 * float(near), 0.18 + 0.25 * float(near)
        person(c, float(c.rng.random()), place, size, (red, green, blue), 0.6, skin)
    c.texture(0.08)


def portrait(c: Canvas, back: tuple[Color, ...], clothes: Color, hair: Color, skin: Color = Skin) -> None:
    c.gradient(*back)
    c.ellipse(0.5, 1.12, 0.5, 0.4, clothes, shade=0.2)
    c.ellipse(0.5, 0.42, 0.27, 0.33, hair, shade=0.2)
    c.box(0.46, 0.6, 0.54, 0.8, (skin[0] * 4 // 5, skin[1] * 4 // 5, skin[2] * 4 // 5))
    c.ellipse(0.5, 0.46, 0.21, 0.27, skin, soft=0.004, shade=0.15)
    c.ellipse(0.5, 0.27, 0.23, 0.12, hair, soft=0.006)
    eye = 0.085 * c.height / c.width
    for x in (0.5 - eye, 0.5 + eye):
        c.ellipse(x, 0.44, 0.038, 0.02, (245, 245, 240))
        c.ellipse(x, 0.44, 0.018, 0.019, (60, 90, 90))
        c.ellipse(x, 0.44, 0.009, 0.01, Dark)
        c.line([(x - 0.04, 0.395), (x + 0.03, 0.39)], hair, 0.012)
    c.line([(0.5, 0.47), (0.49, 0.53), (0.51, 0.535)], (skin[0] * 3 // 4, skin[1] * 3 // 4, skin[2] * 3 // 4), 0.006)
    c.ellipse(0.5, 0.61, 0.06, 0.016, (180, 80, 80), soft=0.002)
    c.glow(0.3, 0.3, 0.5, (50, 45, 35))
    c.texture(0.06)


def four_legged(
    c: Canvas, back: tuple[Color, ...], ground: Color, coat: Color, *, tall: float = 1.0, mane: bool = False
) -> None:
    """A dog, a horse, a fox: the longer its legs (`tall`), the more of a horse."""
    c.gradient(*back, bottom=0.65)
    c.clouds((245, 245, 245), 0.4, below=0.6)
    c.gradient(ground, (ground[0] // 2, ground[1] // 2, ground[2] // 2), top=0.62)
    body, foot = 0.62 - 0.1 * tall, 0.84
    dark = (coat[0] * 2 // 3, coat[1] * 2 // 3, coat[2] * 2 // 3)
    for x, lean in ((0.38, -0.03), (0.43, 0.03), (0.6, -0.03), (0.65, 0.04)):
        c.line([(x, body), (x + lean, foot)], dark, 0.035)
    c.ellipse(0.51, body, 0.27, 0.12, coat, shade=0.25)
    c.line([(0.38, body - 0.03), (0.3, body - 0.1 - 0.1 * tall)], coat, 0.1)
    c.ellipse(0.27, body - 0.14 - 0.1 * tall, 0.1, 0.06, coat, shade=0.2)
    for x in (0.3, 0.33):
        c.polygon(
            [
                (x - 0.012, body - 0.17 - 0.1 * tall),
                (x, body - 0.27 - 0.1 * tall),
                (x + 0.014, body - 0.16 - 0.1 * tall),
            ],
            dark,
        )
    c.ellipse(0.26, body - 0.155 - 0.1 * tall, 0.009, 0.009, Dark)
    c.line([(0.66, body - 0.03), (0.74, body - 0.02), (0.78, body + 0.14 * tall)], dark, 0.03, soft=0.004)
    if mane:
        c.line([(0.33, body - 0.22 - 0.1 * tall), (0.42, body - 0.07)], Dark, 0.05, soft=0.01)
    c.texture(0.3, cells=90)


def birds(c: Canvas, sky: tuple[Color, ...], count: int, color: Color) -> None:
    c.gradient(*sky)
    c.clouds((255, 250, 245), 0.55)
    for x, y, size in c.rng.random((count, 3)):
        s = 0.02 + 0.06 * float(size)
        px, py, lift = float(x), float(y) * 0.8 + 0.05, float(c.rng.uniform(-0.4, 0.8))
        c.line(
            [
                (px - s, py - lift * s),
                (px - s / 3, py - 0.2 * s),
                (px, py),
                (px + s / 3, py - 0.2 * s),
                (px + s, py - lift * s),
            ],
            color,
            0.012 * s / 0.05,
        )
    c.texture(0.05)


def gears(c: Canvas, back: tuple[Color, ...], metals: tuple[Color, ...]) -> None:
    c.gradient(*back)
    for index, metal in enumerate(metals):
        x, y, radius = 0.22 + 0.28 * index, 0.5 + 0.16 * (-1) ** index, 0.2 + 0.03 * (index % 2)
        ring = []
        for step in range(16 * 4):
            angle, reach = 2 * np.pi * step / 64, radius * (1.14 if step % 4 in (1, 2) else 0.98)
            ring.append((x + reach * np.cos(angle) * c.height / c.width, y + reach * np.sin(angle)))
        c.polygon([(px + 0.01, py + 0.02) for px, py in ring], (15, 15, 15), soft=0.012)
        c.polygon(ring, metal, shade=0.35)
        c.ellipse(
            x, y, radius * 0.72, radius * 0.72, (metal[0] * 3 // 4, metal[1] * 3 // 4, metal[2] * 3 // 4), shade=0.3
        )
        c.ellipse(x, y, radius * 0.18, radius * 0.18, Dark)
    c.texture(0.15, cells=120)


def vehicle(c: Canvas, sky: tuple[Color, ...], paint: Color, *, cars: int = 1, rails: bool = False) -> None:
    c.gradient(*sky, bottom=0.6)
    c.ridge(0.6, 0.14, (90, 120, 90), cells=4)
    c.gradient((95, 95, 98), (60, 60, 64), top=0.66)
    for x in np.arange(0.02, 1, 0.12):
        c.box(x, 0.84, x + (0.1 if rails else 0.06), 0.85, (200, 200, 190))
    width = 0.84 / cars
    for index in range(cars):
        left = 0.08 + index * width
        right = left + width * 0.94
        c.box(left, 0.5, right, 0.74, paint, shade=0.25)
        roof = [
            (left + 0.12 * width, 0.5),
            (left + 0.25 * width, 0.38),
            (left + 0.75 * width, 0.38),
            (left + 0.88 * width, 0.5),
        ]
        c.polygon([(left, 0.5), (left, 0.4), (right, 0.4), (right, 0.5)] if rails else roof, paint, shade=0.1)
        for x in np.linspace(left + 0.2 * width, left + 0.62 * width, 3):
            c.box(x, 0.41, x + 0.13 * width, 0.5, (165, 200, 215), shade=0.2)
        for x in (left + 0.2 * width, left + 0.76 * width):
            c.ellipse(x, 0.74, 0.055, 0.055, Dark)
            c.ellipse(x, 0.74, 0.025, 0.025, (170, 170, 175))
    c.texture(0.08)


def flower(c: Canvas, back: tuple[Color, ...], petals: Color, heart: Color, count: int = 12) -> None:
    c.gradient(*back)
    c.blend(c.noise(5, 3) * 0.35, (60, 110, 60))
    c.line([(0.5, 0.5), (0.53, 1.05)], (60, 110, 50), 0.03)
    for layer, reach in ((0, 0.36), (1, 0.27)):
        for index in range(count):
            angle = 2 * np.pi * (index + 0.5 * layer) / count
            ratio = c.height / c.width
            tip = (0.5 + reach * np.cos(angle) * ratio, 0.48 + reach * np.sin(angle))
            side = 0.09
            left = (0.5 + 0.6 * reach * np.cos(angle - side * 3) * ratio, 0.48 + 0.6 * reach * np.sin(angle - side * 3))
            right = (
                0.5 + 0.6 * reach * np.cos(angle + side * 3) * ratio,
                0.48 + 0.6 * reach * np.sin(angle + side * 3),
            )
            tone = 0.85 + 0.25 * ((index + layer) % 2)
            color = (round(petals[0] * tone), round(petals[1] * tone), round(petals[2] * tone))
            c.polygon([(0.5, 0.48), left, tip, right], color, soft=0.004, shade=0.08)
    c.ellipse(0.5, 0.48, 0.1, 0.1, heart, soft=0.004, shade=0.3)
    c.texture(0.2)


def still_life(c: Canvas, wall: tuple[Color, ...], fruits: tuple[Color, ...], *, steam: bool = False) -> None:
    c.gradient(*wall, bottom=0.62)
    c.gradient((120, 80, 50), (80, 50, 30), top=0.6)
    c.glow(0.2, 0.2, 0.6, (70, 60, 40))
    for index, color in enumerate(fruits):
        x, y = 0.2 + 0.6 * index / max(len(fruits) - 1, 1), 0.66 + 0.05 * (index % 2)
        c.ellipse(x + 0.02, y + 0.1, 0.14, 0.03, (20, 12, 8), soft=0.02)
        c.ellipse(x, y, 0.12, 0.115, color, shade=0.35)
        c.ellipse(x - 0.02, y - 0.05, 0.025, 0.02, (255, 250, 240), soft=0.01)
    if steam:
        rows = np.linspace(1, 0, c.height)[:, None]
        c.blend((c.noise(6, 3, stretch=0.4) - 0.45).clip(0) * 1.5 * rows * (rows < 0.95), (235, 235, 235))
    c.texture(0.12)


def room(c: Canvas, wall: Color, floor: Color, window: tuple[Color, ...]) -> None:
    c.gradient(wall, (wall[0] * 3 // 4, wall[1] * 3 // 4, wall[2] * 3 // 4))
    c.polygon([(0, 1), (0.2, 0.68), (0.8, 0.68), (1, 1)], floor, shade=0.2)
    c.polygon([(0, 0), (0.2, 0.15), (0.2, 0.68), (0, 1)], (wall[0] * 5 // 6, wall[1] * 5 // 6, wall[2] * 5 // 6))
    for step, color in enumerate(window):
        part = 0.36 / len(window)
        c.box(0.42, 0.2 + step * part, 0.68, 0.2 + (step + 1) * part, color)
    for x in (0.42, 0.55, 0.68):
        c.line([(x, 0.2), (x, 0.56)], (245, 240, 230), 0.012)
    c.polygon([(0.42, 0.7), (0.68, 0.7), (0.6, 0.98), (0.2, 0.98)], (255, 240, 200), soft=0.02)
    c.polygon([(0.24, 0.6), (0.38, 0.6), (0.38, 0.82), (0.24, 0.86)], (120, 60, 55), shade=0.25)
    c.vignette(0.35)
    c.texture(0.08)


def sign(c: Canvas, words: str, wall: Color, board: Color, ink: Color, *, neon: bool = False) -> None:
    c.gradient(wall, (wall[0] * 2 // 3, wall[1] * 2 // 3, wall[2] * 2 // 3))
    for row in range(14):
        c.line([(0, row / 14), (1, row / 14)], (wall[0] * 3 // 4, wall[1] * 3 // 4, wall[2] * 3 // 4), 0.004)
    c.box(0.14, 0.26, 0.86, 0.74, board, shade=0.12)
    c.line([(0.14, 0.26), (0.86, 0.26), (0.86, 0.74), (0.14, 0.74), (0.14, 0.26)], ink, 0.012)
    c.text(words, 0.5, 0.5, 0.15, ink, glow=0.03 if neon else 0.0)
    if neon:
        c.glow(0.5, 0.5, 0.5, (ink[0] // 3, ink[1] // 3, ink[2] // 3))
    c.texture(0.12)


def sketch(c: Canvas, paper: Color, ink: Color, *, tower: bool = False) -> None:
    """Lines drawn by a hand that shakes a little."""
    c.gradient(paper, paper)
    house = [(0.3, 0.8), (0.3, 0.45), (0.5, 0.25), (0.7, 0.45), (0.7, 0.8), (0.3, 0.8)]
    high = [(0.42, 0.85), (0.45, 0.25), (0.5, 0.1), (0.55, 0.25), (0.58, 0.85), (0.42, 0.85)]
    door, hills = [(0.46, 0.8), (0.46, 0.6), (0.54, 0.6), (0.54, 0.8)], [(0, 0.7), (0.15, 0.58), (0.3, 0.66)]
    for stroke in (
        high if tower else house,
        door,
        hills,
        [(0.7, 0.66), (0.85, 0.55), (1, 0.64)],
        [(0.02, 0.85), (0.98, 0.85)],
    ):
        for _ in range(2):
            fine = np.concatenate([np.linspace(a, b, 8) for a, b in pairwise(stroke)])
            c.line([(float(x), float(y)) for x, y in fine + c.rng.normal(0, 0.0025, fine.shape)], ink, 0.005)
    for x in np.linspace(0.32, 0.68, 24):
        c.line([(x, 0.8), (x + 0.02, 0.74)], ink, 0.002)
    c.texture(0.06, cells=150)


def watercolor(c: Canvas, washes: tuple[Color, ...]) -> None:
    c.gradient((250, 246, 236), (244, 238, 226))
    for index, color in enumerate(washes):
        mask = c.noise(3, 4)
        rows = np.linspace(0, 1, c.height)[:, None]
        band = np.exp(-(((rows - (index + 0.5) / len(washes)) * len(washes)) ** 2))
        c.blend((mask * band * 1.6 - 0.35).clip(0, 0.75), color)
    c.texture(0.1, cells=150)
