"""The generated pages of the reference, from registry, signatures and docstrings alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import api_pages
import command_pages
import data_pages
import method_pages
import protocol_pages

FOLDER = "reference"
#: pages in the order of the navigation, from ``docs/``
PAGES = tuple(
    f"{FOLDER}/{name}"
    for name in (
        *("methods/index", "protocols/index", "data-sets", "streams", "metrics"),
        *("command-line", "method-api", "python-api", "functional/index"),
    )
)


def write(docs: Path) -> None:
    """Write all pages into ``docs/reference``, in place of those that were there."""
    pages = {
        **method_pages.pages((docs / "methods.md").read_text(encoding="utf-8")),
        **protocol_pages.pages(),
        **data_pages.pages(),
        **command_pages.pages(),
        **api_pages.pages(),
    }
    folder = docs / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages.items():
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip() + "\n", encoding="utf-8")
