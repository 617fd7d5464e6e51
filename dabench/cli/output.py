"""What all commands print with: aligned columns, numbers, warnings of damaged records."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from dabench.errors import StoreError

#: how many damaged files are named one by one
_NAMED = 20


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )


def printable(text: str) -> str:
    """Return text of a record as it may go to a terminal: on one line, no control characters."""
    from dabench.board.tables.markup import one_line

    return one_line(text)


def shortened(name: str, most: int = 60) -> str:
    """Return a name on one line, cut where it is longer than ``most``."""
    text = printable(name)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: float | None, *, signed: bool = False) -> str:
    """Return a fraction with four digits; a hole is a dash."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def warn_of_damage(problems: Sequence[str], *, strict: bool, more: str = "") -> None:
    """Name what was left out on stderr, the first ``_NAMED`` one by one.

    Args:
        problems: a line for every damaged record.
        strict: fail instead.
        more: ends the sentence that counts them.

    Raises:
        StoreError: ``strict``, and there is a damaged record.
    """
    if strict and problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(problems[0] + others)
    for problem in problems[:_NAMED]:
        print(f"warning: {printable(problem)}", file=sys.stderr)
    if problems:
        print(f"warning: {len(problems)} records left out{more}", file=sys.stderr)
