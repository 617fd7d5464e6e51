"""The navigation: a plain list of links on the start page is also the table of contents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK = re.compile(r"^- \[([^\]]+)\]\(([^):#]+)\.(?:md|ipynb)\)", re.MULTILINE)


def with_toctrees(text: str, first: Mapping[str, Sequence[str]]) -> str:
    """Return the start page with a hidden table of contents behind every group's list.

    Args:
        text: Markdown with a heading of the second level for each group, and a list of links.
        first: group -> further pages, which stand before those of the list.
    """
    opening, *groups = _HEADING.split(text)
    parts = [opening]
    for name, body in zip(groups[::2], groups[1::2], strict=True):
        links = [f"{title} <{page}>" for title, page in _LINK.findall(body)]
        entries = "\n".join([*first.get(name, ()), *links])
        tree = f"```{{toctree}}\n:hidden:\n:caption: {name}\n\n{entries}\n```\n" if entries else ""
        parts.append(f"## {name}{body.rstrip()}\n\n{tree}\n")
    return "".join(parts)
