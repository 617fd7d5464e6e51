"""The leaderboard page of the committed records as a part of the site: ``board/index.html``.

It is made by the command that makes anybody's page, once the site is written. A link to the folder
of records, which is all that a code host has to show, leads to it in the site.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from functools import cache
from pathlib import Path

from dabench.board.page.texts import fragment
from dabench.cli.main import main
from dabench.store.rows import row_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = "board/index.html"
_STAMP = "board-made-from"
#: records with the answers beside them, which are checked, and published figures
_SHOWN = ("results/records/*/*/*", "results/cards/*.yaml")
_CODE = ("dabench/**/*.py", "dabench/board/templates/*", "methods/**/*.py", "protocols/**/*.py")
_LINK = re.compile(r"\[([^\]]+)\]\(\.\./results/records\)")


def linked(text: str) -> str:
    """Return a page with its links to the folder of records led to the page that shows them."""
    return _LINK.sub(rf'<a href="{PAGE}">\1</a>', text)


@cache
def rows() -> dict[str, dict[str, list[str]]]:
    """Return method -> protocol -> its rows on the page, without those of changed options.

    A protocol where it has such rows alone has none here.
    """
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in _committed():
        if path.suffix != ".json" or path.name.endswith(".failed.json"):
            continue
        run = json.loads(path.read_text(encoding="utf-8"))
        spec = run["spec"]
        named = found[spec["method"]][spec["protocol"]]
        if not run["variant"]:
            named.add(row_of(run).label)
    return {m: {p: sorted(r) for p, r in sorted(own.items())} for m, own in found.items()}


def link(up: str, text: str, *parts: str) -> str:
    """Return a link to a place on the page.

    Args:
        up: the way from where the link stands to the root of the site.
        text: what it says.
        parts: protocol, row.
    """
    place = "/".join(fragment(part) for part in parts)
    return f'<a href="{up}{PAGE}#{place}">{text}</a>'


def write(site: Path, kept: Path) -> None:
    """Write the page, unless what it was made from is what there is.

    Args:
        site: the folder of the built site.
        kept: a folder that lasts from build to build.

    Raises:
        RuntimeError: the command failed, or would have warned; it has said why.
    """
    shown, stamp = _committed(), kept / _STAMP
    made_from = _digest([*shown, *(path for code in _CODE for path in sorted(ROOT.glob(code)))])
    if (site / PAGE).is_file() and stamp.is_file() and stamp.read_text("utf-8") == made_from:
        return
    with tempfile.TemporaryDirectory() as results:
        for path in shown:
            copy = Path(results, path.relative_to(ROOT / "results"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        folder = str((site / PAGE).parent)
        if main(["leaderboard", "--strict", "--results", results, "--html", folder]):
            raise RuntimeError(f"{PAGE}: 'dabench leaderboard --html' failed; see above")
    stamp.write_text(made_from, encoding="utf-8")


def _committed() -> list[Path]:
    """Return the shown files that git knows (without git all): runs of one's own are no page's."""
    command = ["git", "-C", str(ROOT), "ls-files", "--", "results"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    known = set(listed.splitlines())
    there = [path for pattern in _SHOWN for path in sorted(ROOT.glob(pattern))]
    return [path for path in there if not known or path.relative_to(ROOT).as_posix() in known]


def _digest(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()
