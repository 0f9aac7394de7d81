"""The report, opened in a browser from disk."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from vq_eval.report.build import make_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

browser_tool = pytest.importorskip("browser", reason="the driver of the browser is in tools/, outside the package")

FRAMES, HEIGHT, WIDTH, FPS = 9, 32, 48, 8  # of the videos of `world`
DESKTOP: "ViewportSize" = {"width": 1280, "height": 900}
PHONE: "ViewportSize" = {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(
    browser_tool.find_chromium() is None and "VQ_BROWSER_REQUIRED" not in os.environ,
    reason="no Chromium is installed: `make browser` installs it, and .ci/run insists on it",
)


class Opened:
    """A page, and everything that it complained about or asked the network for."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.complaints: list[str] = []
        self.schemes: set[str] = set()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url} {request.failure}"))
        page.on("request", lambda request: self.schemes.add(urlsplit(request.url).scheme))

    def screenshot(self, selector: str) -> np.ndarray:
        """What an element looks like, uint8 RGB `[height, width, 3]`."""
        picture = Image.open(io.BytesIO(self.page.locator(selector).screenshot()))
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def folder(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of `world`."""
    output = tmp_path_factory.mktemp("report") / "page"
    make_report(world.comparison, output, trajectory=world.trajectory, layers=[world.layers])
    return output


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with browser_tool.open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def desktop(browser: "Browser", folder: Path) -> Iterator[Opened]:
    opened = Opened(browser.new_page(viewport=DESKTOP, reduced_motion="reduce"))
    yield open_report(opened, folder)
    opened.page.close()


def open_report(opened: Opened, folder: Path) -> Opened:
    opened.page.goto((folder / "index.html").as_uri())
    for ready in (
        "'.screen.on video')].every(it => it.readyState >= 2)",
        "'.chart')].every(it => it.querySelector('svg'))",
    ):
        opened.page.wait_for_function(f"[...document.querySelectorAll({ready}")
    return opened


def settle(opened: Opened, frame: int) -> None:
    """Show a frame, standing, and wait until the videos that are shown have it."""
    opened.page.locator("#frame").fill(str(frame))
    opened.page.wait_for_function(
        "at => [...document.querySelectorAll('.screen.on video')]"
        ".every(it => !it.seeking && Math.floor(it.currentTime * 8) === at)",
        arg=frame,
    )
    opened.page.wait_for_timeout(150)


def test_says_what_to_ship(desktop: Opened) -> None:
    assert desktop.page.locator("#verdict h1").inner_text() == "Ship int8 auto"
    assert desktop.page.locator("#verdict tr.best").inner_text().startswith("int8 auto")
    assert "blocks.3.ffn.net.2 has 9.0 dB" in desktop.page.locator("#verdict .suspects").inner_text()


def test_videos_play_in_step(desktop: Opened) -> None:
    settle(desktop, 0)
    desktop.page.click("#play")
    desktop.page.wait_for_function("document.querySelector('.screen.left video').currentTime > 0.3")
    times = [
        desktop.page.evaluate("[...document.querySelectorAll('.screen.on video')].map(it => it.currentTime)")
        for _ in range(10)
    ]
    desktop.page.click("#play")
    assert all(len(pair) == 2 for pair in times)
    apart = sorted(abs(left - right) for left, right in times)
    assert apart[len(apart) // 2] <= 1 / 8
    assert desktop.page.evaluate("[...document.querySelectorAll('video')].every(it => it.paused)")


def test_a_video_begins_anew_at_its_end(desktop: Opened) -> None:
    settle(desktop, FRAMES - 2)
    desktop.page.click("#play")
    desktop.page.wait_for_function("Number(document.querySelector('#frame').value) < 3")
    desktop.page.click("#play")


def test_the_slider_wipes(desktop: Opened) -> None:
    settle(desktop, FRAMES - 1)
    seen = {}
    for percent in ("0", "50", "100"):
        desktop.page.locator("#wipe").fill(percent)
        seen[percent] = desktop.screenshot("#stage")[60:].astype(int)  # below the captions
    left, middle, right = seen["100"], seen["50"], seen["0"]
    assert np.abs(left - right).mean() > 1, "the two videos look alike"
    half = left.shape[1] // 2 - 30  # beside the handle
    assert np.array_equal(middle[:, :half], left[:, :half])
    assert np.array_equal(middle[:, -half:], right[:, -half:])


def test_dragging_wipes(desktop: Opened) -> None:
    box = desktop.page.locator("#stage").bounding_box()
    assert box is not None
    desktop.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    desktop.page.mouse.down()
    desktop.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
    desktop.page.mouse.up()
    assert desktop.page.locator("#wipe").input_value() == "80"


def test_the_difference_is_that_of_the_lossless_frames(desktop: Opened, world: Any) -> None:
    frame, gain = 6, 4
    desktop.page.check("[name=mode][value=difference]", force=True)
    desktop.page.select_option("#right", label="int8 rtn")
    settle(desktop, frame)
    desktop.page.select_option("#gain", str(gain))
    assert desktop.page.locator("#source").get_attribute("data-exact") == "true"
    # One pixel of the screen for one of the canvas, and nothing over it.
    desktop.page.add_style_tag(
        content=f".bare {{position: fixed !important; inset: 0 auto auto 0; width: {WIDTH}px !important; z-index: 99;"
        "border-radius: 0; margin: 0}"
        ".bare p, #vg-tooltip-element {visibility: hidden !important}"
    )
    desktop.page.mouse.move(0, 800)
    desktop.page.evaluate("document.querySelector('#stage').classList.add('bare')")
    seen = desktop.screenshot("#difference").astype(int)
    desktop.page.evaluate("document.querySelector('#stage').classList.remove('bare')")
    desktop.page.check("[name=mode][value=wipe]", force=True)
    full, quantized = (world.frames[name][0][frame].astype(int) for name in ("full", "int8 rtn"))
    expected = np.minimum(255, gain * abs(full - quantized))
    assert (expected.max(), expected.min()) == (240, 0)
    np.testing.assert_array_equal(seen, expected)


def test_every_view_shows_its_videos(desktop: Opened) -> None:
    for mode, count in (("side", 2), ("all", 4), ("wipe", 2)):
        desktop.page.check(f"[name=mode][value={mode}]", force=True)
        assert desktop.page.locator(".screen.on:visible").count() == count
        settle(desktop, 2)


def test_prompt_and_candidate_are_chosen(desktop: Opened) -> None:
    desktop.page.select_option("#prompt", "1")
    desktop.page.select_option("#right", label="floor")
    sources = "[...document.querySelectorAll('.screen.on video')].map(it => it.getAttribute('src'))"
    assert desktop.page.evaluate(sources) == ["videos/0/001.mp4", "videos/1/001.mp4"]
    desktop.page.click("[data-watch='0']")
    assert desktop.page.evaluate(sources) == ["videos/0/000.mp4", "videos/1/000.mp4"]


def test_keys_step_and_a_click_in_the_plot_seeks(desktop: Opened) -> None:
    settle(desktop, 3)
    desktop.page.evaluate("document.activeElement.blur()")
    desktop.page.keyboard.press(".")
    assert desktop.page.locator("#counter").inner_text() == f"5 / {FRAMES}"
    plot = desktop.page.locator("#chart-frames")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    desktop.page.mouse.click(box["x"] + 0.99 * box["width"], box["y"] + 0.5 * box["height"])
    assert desktop.page.locator("#counter").inner_text() == f"{FRAMES} / {FRAMES}"


def test_theme_and_language_are_switched(desktop: Opened) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = desktop.page.evaluate(background)
    desktop.page.click("#theme")
    assert sum(map(int, desktop.page.evaluate(background)[4:-1].split(","))) < 150
    desktop.page.click("#theme")
    assert desktop.page.evaluate(background) == light
    desktop.page.click("#language")
    assert desktop.page.locator("#verdict h1").inner_text() == "可发布 int8 auto"
    desktop.page.wait_for_function("document.querySelector('#chart-frames').textContent.includes('帧')")
    desktop.page.click("#language")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone(browser: "Browser", folder: Path, scheme: Any) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    opened = open_report(Opened(context.new_page()), folder)
    for mode in ("wipe", "side", "all", "difference"):
        opened.page.check(f"[name=mode][value={mode}]", force=True)
        widths = opened.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(widths) <= PHONE["width"], mode
    dark = sum(map(int, opened.page.evaluate("getComputedStyle(document.body).backgroundColor")[4:-1].split(","))) < 150
    assert dark == (scheme == "dark")
    assert opened.complaints == []
    context.close()


def test_nothing_complains_and_nothing_asks_the_network(desktop: Opened) -> None:
    assert desktop.complaints == []
    assert desktop.schemes <= {"file", "data", "blob"}
    assert "file" in desktop.schemes
