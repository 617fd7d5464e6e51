"""Draw the pictures of ``docs/page.md`` from the committed records (run without arguments).

They are taken in the Chromium that ``tests/browser`` uses. Fonts differ from machine to machine, so
no test compares them: draw them again when the page has changed.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "site"), str(DOCS.parent / "tests")]

import board_page  # noqa: E402 - it lies in docs/site
from chromium import DESKTOP, PHONE, chromium  # noqa: E402 - it lies in tests

#: file -> link, what is brought to the top ("" = what the link shows), whether a phone in the dark
PICTURES = {
    "page-overview.png": ("#overview", ".standing", False),
    "page.png": ("#sf-osda", "h3", False),
    "page-phone.png": ("#gradual-weather/aerial", "", True),
}


def draw(browser: Any, address: str, folder: Path) -> None:
    """Draw every picture of the page at ``address`` into a folder."""
    for name, (link, top, phone) in PICTURES.items():
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme="dark" if phone else "light",
            has_touch=phone,
            device_scale_factor=1.5,  # sharp on dense screens too
        )
        page = context.new_page()
        page.goto(address + link)
        if top:
            shown = page.locator(f".tab:visible {top}").first
            shown.evaluate("part => part.scrollIntoView()")
        page.wait_for_timeout(300)  # the edges of what scrolls are found when it is laid out
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        # a palette makes a third of the file, and no difference to the eye
        few = shot.quantize(256, dither=Image.Dither.NONE)
        few.save(folder / name, optimize=True)
        context.close()


def main() -> int:
    """Make the page, and its pictures."""
    try:
        with chromium() as browser, tempfile.TemporaryDirectory() as made:
            board_page.write(Path(made), Path(made))
            draw(browser, (Path(made) / board_page.PAGE).as_uri(), DOCS)
    except LookupError as error:
        sys.stderr.write(f"no picture drawn: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
