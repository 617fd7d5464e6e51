"""Docstrings as reStructuredText: sections by napoleon, formulas as they are written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

_LITERAL = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`)")


def escape(lines: Iterable[str]) -> list[str]:
    """Escape what reStructuredText would take for markup, outside code and literal blocks.

    ``|x|`` is a substitution there, ``sum_{c}`` a link.
    """
    found: list[str] = []
    literal: int | None = None  # indent of the line that opened a literal block
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None:
            parts = _LITERAL.split(line)
            parts[::2] = [_escape(part) for part in parts[::2]]
            literal = indent if line.rstrip().endswith("::") else None
            line = "".join(parts)
        found.append(line)
    return found


def _escape(text: str) -> str:
    text = text.replace("|", "\\|")
    return re.sub(r"(?<=\w)_(?=[^\w]|$)", r"\\_", text)


def description(cls: type[Any]) -> list[str]:
    """Return a class's docstring as reStructuredText, without its arguments."""
    kept: list[str] = []
    within = False
    for line in (inspect.getdoc(cls) or "").splitlines():
        if line.strip() == "Args:":
            within = True
        elif line and not line.startswith(" "):
            within = False
        if not within:
            kept.append(line)
    domains = [(name, "params_style") for name in ("Domain", "Domains")]
    config: Any = Config(napoleon_numpy_docstring=False, napoleon_custom_sections=domains)
    return str(GoogleDocstring(escape(kept), config, what="class", obj=cls)).splitlines()
