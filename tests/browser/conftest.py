"""A real Chromium for the tests of pages, and pages whose every complaint fails the test.

Where there is none (``tests/chromium.py`` says what is looked for) the tests skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from chromium import DESKTOP, PHONE, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(chromium())
        except LookupError as error:
            pytest.skip(str(error))
        yield made


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
