"""A real Chromium, for tests of pages and for the pictures of pages in ``docs``.

Needs the ``playwright`` package and a Chromium: ``DABENCH_CHROMIUM=/path``, one of the usual names
on the path, or playwright's own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = (
    *("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser"),
    *("google-chrome", "google-chrome-stable"),
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a browser.

    Raises:
        LookupError: there is none; the text says how to get one.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise LookupError("no playwright: pip install playwright") from error
    named = os.environ.get("DABENCH_CHROMIUM")
    found = named or next((path for path in map(shutil.which, NAMES) if path), None)
    with sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).is_file():
            raise LookupError("no Chromium: install one, or name it in DABENCH_CHROMIUM")
        options = {"executable_path": found} if found else {}
        # the sandbox needs rights that containers lack; the page is our own
        made = driver.chromium.launch(args=["--no-sandbox"], **options)
        try:
            yield made
        finally:
            made.close()
