"""Scenes without people: land, water, fire, weather, space, and towns."""

import numpy as np

from prompt_sets.canvas import Canvas, Color

White: Color = (250, 250, 250)


def mountains(c: Canvas, sky: tuple[Color, ...], rock: Color, *, lake: bool = False, sun: float | None = None) -> None:
    c.gradient(*sky)
    if sun is not None:
        c.glow(sun, 0.3, 0.35, (255, 190, 110), 0.8)
    c.clouds(White, 0.45, below=0.6)
    for depth, share in enumerate((0.35, 0.6, 0.85)):
        red, green, blue = (round(s * (1 - share) + r * share) for s, r in zip(sky[-1], rock, strict=True))
        c.ridge(0.55 + 0.09 * depth, 0.32 - 0.07 * depth, (red, green, blue), cells=3 + 2 * depth)
    if lake:
        c.reflect(0.7, (40, 80, 110))
    c.texture(0.25)


def sea(c: Canvas, sky: tuple[Color, ...], water: Color, *, waves: float = 1.0, boat: Color | None = None) -> None:
    c.gradient(*sky, bottom=0.5)
    c.clouds(White, 0.4, below=0.5)
    c.glow(0.7, 0.42, 0.25, (255, 200, 140), 0.7)
    dark: Color = (water[0] // 2, water[1] // 2, water[2] // 2)
    c.gradient(water, dark, top=0.5)
    rows = np.linspace(0, 1, c.height)[:, None]
    swell = np.sin(60 * rows**1.6 + 7 * c.noise(4, 3, stretch=4)) * (rows > 0.5)
    c.blend((swell - 0.75).clip(0) * 2.5 * waves, White)
    if boat is not None:
        c.polygon([(0.3, 0.6), (0.5, 0.6), (0.46, 0.67), (0.34, 0.67)], boat, shade=0.2)
        c.polygon([(0.4, 0.32), (0.4, 0.58), (0.5, 0.58)], White, shade=0.1)
        c.polygon([(0.39, 0.36), (0.39, 0.58), (0.32, 0.58)], (225, 220, 210), shade=0.1)
    c.texture(0.15)


def forest(c: Canvas, ground: Color, leaves: Color, *, trees: int = 14, path: Color | None = None) -> None:
    c.gradient((190, 210, 200), (230, 235, 215), bottom=0.65)
    c.gradient(ground, (ground[0] // 2, ground[1] // 2, ground[2] // 2), top=0.6)
    if path is not None:
        c.polygon([(0.48, 0.6), (0.52, 0.6), (0.75, 1), (0.2, 1)], path, soft=0.01, shade=0.15)
    for near in np.sort(c.rng.random(trees)):
        x, size = float(c.rng.random()), 0.25 + 0.6 * float(near)
        foot = 0.58 + 0.3 * float(near)
        c.box(x - 0.012 * size, foot - size * 0.7, x + 0.012 * size, foot, (70, 50, 35), shade=0.2)
        for _ in range(5):
            dx, dy = c.rng.normal(0, 0.05 * size), c.rng.normal(0, 0.06 * size)
            shade = float(c.rng.uniform(0.7, 1.15))
            tint = (round(leaves[0] * shade), round(leaves[1] * shade), round(leaves[2] * shade))
            c.ellipse(x + dx, foot - size * 0.75 + dy, 0.16 * size, 0.14 * size, tint, soft=0.006, shade=0.25)
    c.texture(0.3)


def waterfall(c: Canvas, rock: Color, moss: Color) -> None:
    c.gradient((170, 200, 225), (215, 225, 225), bottom=0.3)
    c.ridge(0.35, 0.2, rock, cells=4)
    c.blend(c.noise(12, 4) * 0.7, moss)
    streaks = c.noise(50, 2, stretch=0.3).mean(axis=0)[None, :] * np.ones((c.height, 1))
    rows, columns = np.mgrid[0 : 1 : c.height * 1j, 0 : 1 : c.width * 1j]
    fall = (np.abs(columns - 0.5) < 0.11 + 0.05 * rows) & (rows > 0.24) & (rows < 0.85)
    c.blend(fall * (0.55 + 0.9 * (streaks - 0.5)), White)
    c.gradient((70, 120, 125), (30, 70, 85), top=0.84)
    for x in c.rng.normal(0.5, 0.12, 30):
        c.ellipse(float(x), 0.84 + float(c.rng.normal(0, 0.02)), 0.06, 0.03, White, soft=0.03)
    c.texture(0.25)


def desert(c: Canvas, sand: Color, sky: tuple[Color, ...]) -> None:
    c.gradient(*sky, bottom=0.5)
    c.gradient(sand, (sand[0] * 2 // 3, sand[1] * 2 // 3, sand[2] * 2 // 3), top=0.45)
    for depth in range(4):
        base = 0.55 + 0.13 * depth
        shade = 1.1 - 0.12 * depth
        tint = (round(sand[0] * shade), round(sand[1] * shade), round(sand[2] * shade))
        c.ridge(base, 0.13, tint, cells=2)
    c.texture(0.12, cells=120)


def campfire(c: Canvas, night: Color, *, flames: int = 18) -> None:
    c.gradient(night, (10, 8, 14))
    for x, y in zip(c.rng.random(60), c.rng.random(60) * 0.5, strict=True):
        c.glow(float(x), float(y), 0.006, White, 0.8)
    c.glow(0.5, 0.75, 0.5, (150, 60, 15))
    c.polygon([(0.36, 0.86), (0.64, 0.8), (0.65, 0.84), (0.37, 0.9)], (60, 35, 20))
    c.polygon([(0.36, 0.8), (0.64, 0.86), (0.63, 0.9), (0.35, 0.84)], (75, 45, 25))
    for _ in range(flames):
        x, h = float(c.rng.normal(0.5, 0.035)), float(c.rng.uniform(0.12, 0.42))
        warm = (255, int(c.rng.integers(110, 220)), 40)
        c.polygon([(x - 0.03, 0.84), (x + 0.01, 0.84 - h), (x + 0.04, 0.84)], warm, soft=0.012)
    c.glow(0.5, 0.78, 0.12, (255, 230, 150), 0.8)


def storm(c: Canvas, ground: Color) -> None:
    c.gradient((25, 28, 40), (80, 85, 100), bottom=0.75)
    c.clouds((120, 120, 135), 0.7, below=0.7)
    c.gradient(ground, (10, 15, 12), top=0.74)
    x, bolt = 0.6, [(0.6, 0.0)]
    for step in range(1, 12):
        x += float(c.rng.normal(0, 0.025))
        bolt.append((x, step * 0.067))
    c.line(bolt, (220, 220, 255), 0.012, soft=0.01)
    c.line(bolt, White, 0.006)
    c.glow(0.6, 0.1, 0.5, (90, 90, 140))
    for start in c.rng.random((160, 2)):
        left, top = map(float, start)
        c.line([(left, top), (left - 0.01, top + 0.05)], (150, 160, 180), 0.0015)


def snow(c: Canvas, sky: tuple[Color, ...], *, flakes: int = 220, house: bool = False) -> None:
    c.gradient(*sky)
    c.ridge(0.72, 0.14, (215, 222, 235), cells=2)
    c.ridge(0.85, 0.1, (240, 243, 250), cells=2)
    if house:
        c.box(0.55, 0.55, 0.75, 0.75, (110, 70, 50), shade=0.15)
        c.polygon([(0.52, 0.56), (0.65, 0.42), (0.78, 0.56)], (235, 238, 245))
        c.box(0.6, 0.61, 0.65, 0.68, (255, 215, 120))
        c.glow(0.625, 0.645, 0.12, (255, 190, 90), 0.6)
    for x, y, size in c.rng.random((flakes, 3)):
        c.ellipse(float(x), float(y), 0.002 + 0.005 * float(size), 0.002 + 0.005 * float(size), White, soft=0.001)


def underwater(c: Canvas, water: Color, fish: tuple[Color, ...]) -> None:
    c.gradient((150, 225, 230), water, (water[0] // 3, water[1] // 3, water[2] // 2))
    for _ in range(6):
        x = float(c.rng.random())
        c.polygon([(x, 0), (x + 0.04, 0), (x + 0.2, 1), (x + 0.06, 1)], (190, 240, 240), soft=0.05)
    c.blend(c.noise(3, 3) * 0.5, water)
    for index in range(16):
        x, y, size = float(c.rng.random()), float(c.rng.uniform(0.15, 0.8)), float(c.rng.uniform(0.03, 0.08))
        color = fish[index % len(fish)]
        wide = size * c.height / c.width
        c.ellipse(x, y, size, size * 0.5, color, shade=0.3)
        c.polygon([(x + wide * 0.8, y), (x + wide * 1.6, y - size * 0.5), (x + wide * 1.6, y + size * 0.5)], color)
        c.ellipse(x - wide * 0.55, y - size * 0.1, 0.006, 0.006, (15, 15, 20))
    c.gradient((190, 175, 130), (120, 110, 85), top=0.92)
    c.texture(0.1)


def planet(c: Canvas, surface: tuple[Color, Color], *, ring: bool = False) -> None:
    c.gradient((6, 6, 16), (14, 10, 28))
    for x, y, size in c.rng.random((260, 3)):
        c.glow(float(x), float(y), 0.003 + 0.004 * float(size), White, 0.9)
    rows, columns = np.mgrid[: c.height, : c.width]
    x, y = (columns - 0.55 * c.width) / (0.33 * c.height), (rows - 0.5 * c.height) / (0.33 * c.height)
    inside = (x**2 + y**2 < 1).astype(float)
    light = (0.2 + 0.9 * (np.sqrt((1 - x**2 - y**2).clip(0)) * 0.6 - 0.6 * x - 0.3 * y)).clip(0.05, 1.2)
    bands = c.noise(5, 5, stretch=4.0)[..., None]
    c.blend(inside, (np.asarray(surface[0]) * bands + np.asarray(surface[1]) * (1 - bands)) * light[..., None])
    if ring:
        around = np.abs(np.hypot(x * 0.6, y * 2.4 - x * 0.4) - 1) < 0.12
        c.blend(around * (1 - inside * (y < 0)) * 0.7, (215, 195, 160))


def skyline(c: Canvas, sky: tuple[Color, ...], wall: Color, *, lit: float = 0.0, water: bool = False) -> None:
    c.gradient(*sky)
    c.clouds((230, 225, 230), 0.35, below=0.5)
    x = 0.0
    while x < 1:
        width, top = float(c.rng.uniform(0.05, 0.11)), float(c.rng.uniform(0.2, 0.55))
        tone = float(c.rng.uniform(0.6, 1.1))
        c.box(x, top, x + width, 0.8, (round(wall[0] * tone), round(wall[1] * tone), round(wall[2] * tone)), shade=0.1)
        for wx in np.arange(x + 0.008, x + width - 0.01, 0.016):
            for wy in np.arange(top + 0.02, 0.77, 0.035):
                on = c.rng.random() < lit
                c.box(wx, wy, wx + 0.008, wy + 0.018, (255, 220, 130) if on else (wall[0] // 2, wall[1] // 2, 70))
        x += width + 0.005
    if water:
        c.reflect(0.8, (25, 40, 70))
    else:
        c.gradient((70, 70, 75), (40, 40, 45), top=0.8)
    c.texture(0.08)


def fireworks(c: Canvas, colors: tuple[Color, ...]) -> None:
    skyline(c, ((8, 8, 25), (30, 20, 50)), (25, 25, 40), lit=0.35, water=True)
    for index, color in enumerate(colors):
        x, y = 0.2 + 0.6 * index / max(len(colors) - 1, 1), float(c.rng.uniform(0.15, 0.4))
        for angle in np.linspace(0, 2 * np.pi, 28, endpoint=False):
            reach = float(c.rng.uniform(0.1, 0.17))
            end = (x + reach * np.cos(angle) * c.height / c.width, y + reach * np.sin(angle))
            c.line([(x, y), end], color, 0.003, soft=0.001)
            c.glow(end[0], end[1], 0.01, color)
        c.glow(x, y, 0.15, color, 0.5)
