"""Markdown of the generated pages: tables, links, options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dabench.cli.option_help import type_text
from dabench.config.options import as_argument
from dabench.config.signature import listed_options

ROOT = Path(__file__).resolve().parents[2]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; ``static/site.css`` gives room to the last column, which explains."""
    lines = [list(head), ["---"] * len(head), *rows]
    shown = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join(["```{table}", ":class: explained", "", *shown, "```"])


def cell(text: str) -> str:
    """Return text of a docstring for a cell: no bars, no tags, no line breaks."""
    parts = re.split(r"(``.+?``|`[^`]+`)", " ".join(text.split()))
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return re.sub(r"(?<!\\)\|", r"\\|", "".join(parts))


def code(value: Any) -> str:
    """Return a value as code in a cell."""
    text = str(value).replace("|", "\\|")
    return f"`{text}`" if text else "–"


def options(cls: type[Any], prefix: str) -> str:
    """Return the table of a class's options, from its signature and its docstring."""
    rows = []
    for option in listed_options(cls):
        needed = option.default is inspect.Parameter.empty
        default = "needed" if needed else code(as_argument(option.default))
        names = code(f"--{prefix}.{option.name}"), default, code(type_text(option.annotation))
        rows.append([*names, cell(option.help)])
    return table(["option", "default", "values", "meaning"], rows) if rows else "None."


def rst(lines: Iterable[str]) -> str:
    """Return reStructuredText as a block of a Markdown page."""
    return "\n".join(["````{eval-rst}", *lines, "````"])


def place(cls: type[Any]) -> str:
    """Return the file that a class stands in, from the top of the repository."""
    file = Path(inspect.getfile(cls)).resolve()
    return f"`{file.relative_to(ROOT).as_posix()}`"


def slug(name: str) -> str:
    """Return a name as part of an address."""
    return name.replace("+", "-plus")
