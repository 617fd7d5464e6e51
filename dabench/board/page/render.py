"""Templates, style and script -> one file that asks the network for nothing.

The page's security policy allows exactly the one style sheet and the one script that stand in it,
by their hashes; everything from a record is escaped by Jinja2, and data stand in a block of JSON.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from dabench import __version__
from dabench.board.page import texts
from dabench.store.files import write_bytes_atomically


def render(template: str, **values: Any) -> bytes:
    """Return a page as UTF-8; what is no valid text (lone surrogates) becomes question marks.

    Args:
        template: file name in ``board/templates``.
        values: what the template asks for.
    """
    style = _asset("page.css")
    script = _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    # both are files of the package, and hold nothing of a record
    assets = {"style": Markup(style), "script": Markup(script)}
    found = _environment().get_template(template)
    text = found.render(policy=policy, version=__version__, **assets, **values)
    return text.encode("utf-8", errors="replace")


def write_page(path: Path, content: bytes) -> None:
    """Write a page whole or not at all.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_bytes_atomically(path, content)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("dabench.board", "templates"),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (texts.number, texts.signed, texts.seconds, texts.fragment):
        found.filters[function.__name__] = function
    found.filters["count"] = texts.count
    found.globals["signs"] = texts.SIGNS
    return found


@cache
def _asset(name: str) -> str:
    return (files("dabench.board") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
