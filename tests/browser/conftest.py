"""A real Chromium for the tests of pages, and pages whose every complaint fails the test.

Needs the ``playwright`` package and a Chromium: ``DABENCH_CHROMIUM=/path``, one of the usual names
on the path, or playwright's own. Without either the tests skip.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = (
    *("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser"),
    *("google-chrome", "google-chrome-stable"),
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pip install playwright for the tests in a browser"
    )
    named = os.environ.get("DABENCH_CHROMIUM")
    found = named or next((path for path in map(shutil.which, NAMES) if path), None)
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).is_file():
            pytest.skip("no Chromium: install one, or name it in DABENCH_CHROMIUM")
        options = {"executable_path": found} if found else {}
        # the sandbox needs rights that containers lack; the page is our own
        made = driver.chromium.launch(args=["--no-sandbox"], **options)
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address; whatever the console or a dialog says, or any request, fails the test."""
    contexts, said = [], []

    def open_it(address: str, phone: bool = False, dark: bool = False) -> Any:
        contexts.append(
            browser.new_context(
                viewport=PHONE if phone else DESKTOP,
                color_scheme="dark" if dark else "light",
                has_touch=phone,
            )
        )
        made = contexts[-1].new_page()
        made.on("console", lambda message: said.append(message.text))
        made.on("pageerror", lambda error: said.append(str(error)))
        made.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        made.on("request", lambda request: said.append(request.url) if _away(request.url) else None)
        made.goto(address)
        return made

    yield open_it
    for context in contexts:
        context.close()
    assert said == []


def _away(url: str) -> bool:
    return not url.startswith(("file:", "data:"))
