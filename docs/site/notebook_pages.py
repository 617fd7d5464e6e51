"""The notebooks as pages: run while the site is built, so that what they show is of today's code.

Those of ``notebooks/`` are committed without outputs. Copies are written into ``docs/notebooks/``,
which git ignores; myst-nb runs them in a temporary folder and keeps what came out beside the site,
so that the next build need not run them again. What it keeps is forgotten here as soon as code or
records differ: myst-nb itself looks at the cells alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "notebooks"
_STAMP = "made-from"
_SOURCES = {
    **dict.fromkeys(("dabench", "methods", "datasets", "protocols"), "*.py"),
    "results/records": "*.json",
}
_LINK = re.compile(rf"\]\(\.\./{FOLDER}/(\w+\.ipynb)\)")


def write(docs: Path) -> None:
    """Write the copies; links that are right in ``notebooks/`` are right beside the pages."""
    folder = docs / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((ROOT / FOLDER).glob("*.ipynb")):
        text = path.read_text(encoding="utf-8").replace("](../docs/", "](../")
        (folder / path.name).write_text(text, encoding="utf-8")


def linked(text: str) -> str:
    """Return a page with its links to notebooks, as a code host takes them, led to the copies."""
    return _LINK.sub(rf"]({FOLDER}/\1)", text)


def forget(cache: Path) -> None:
    """Empty the folder of kept outputs, unless code and records are those that they came from."""
    made_from = cache / _STAMP
    now = _digest()
    if made_from.is_file() and made_from.read_text(encoding="utf-8") == now:
        return
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    made_from.write_text(now, encoding="utf-8")


def prepare() -> None:
    """Let kernels find this environment's ``dabench`` command and the committed records."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["DABENCH_RESULTS"] = str(ROOT / "results")


def _digest() -> str:
    found = hashlib.sha256()
    for folder, pattern in _SOURCES.items():
        for path in sorted((ROOT / folder).rglob(pattern)):
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()
