"""Pictures of the report's page in Chromium, small enough for a README."""

import io
from pathlib import Path
from typing import Literal

from PIL import Image

from browser import open_browser

WIDTH, HEIGHT, SCALE = 1240, 1000, 1.5
QUALITY = 88
SHOTS: dict[str, tuple[Literal["light", "dark"], str, str]] = {
    "report_light.webp": ("light", "#verdict", "wipe"),
    "report_dark.webp": ("dark", "#watch", "all"),
}
"""File name: colour scheme, what stands at the top, and how videos are shown."""


def take_pictures(page: Path, folder: Path) -> None:
    """Write the pictures of the report at `page` into `folder`.

    Raises:
        VqError: no Chromium is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        for name, (scheme, top, mode) in SHOTS.items():
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme, device_scale_factor=SCALE
            )
            shown = context.new_page()
            shown.goto(page.resolve().as_uri())
            shown.wait_for_selector("#chart-frames svg")
            shown.check(f"[name=mode][value={mode}]", force=True)
            shown.locator("#frame").fill("8")
            shown.evaluate("document.activeElement.blur()")
            shown.evaluate("top => document.querySelector(top).scrollIntoView({behavior: 'instant'})", top)
            shown.wait_for_timeout(1000)  # videos seek, and plots are drawn
            picture = Image.open(io.BytesIO(shown.screenshot()))
            picture.convert("RGB").save(folder / name, quality=QUALITY, method=6)
            context.close()
