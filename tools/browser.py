"""The system's Chromium, driven by Playwright: for tests and pictures of pages that are opened from disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from vq_core.errors import VqError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "CHROMIUM"
# No sandbox, because tests run as root in containers; nothing but files that were made here is opened.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """The path of Chromium: what the variable `CHROMIUM` says, else the first of its names on the path."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window.

    Raises:
        VqError: none is installed.
    """
    path = find_chromium()
    if path is None:
        raise VqError(f"No Chromium was found: `apt-get install chromium`, or set {VARIABLE} to its path.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()
