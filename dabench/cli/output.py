"""What all commands print with: aligned columns, numbers, warnings of damaged records."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

from dabench.errors import StoreError, one_line

#: exit codes: a bug, or a comparison that found a difference; what a user can mend; a reader that
#: went away
EXIT_BUG = EXIT_DIFFERENT = 1
EXIT_USER, EXIT_PIPE = 2, 141
#: how many damaged files are named one by one
_NAMED = 20


def say(text: str = "", *, error: bool = False) -> None:
    """Print one line on stdout, or with ``error`` on stderr; it cannot steer a terminal."""
    print(one_line(text), file=sys.stderr if error else sys.stdout, flush=error)


def say_lines(text: str, *, error: bool = False) -> None:
    """Print a text that has lines of its own, such as a traceback."""
    for line in text.splitlines():
        say(line, error=error)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print JSON in which letters that stdout has stay, and the rest is ``\\u`` and digits."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    print(re.sub(r"[^\n -~]", _escaped, text))


def _escaped(found: re.Match[str]) -> str:
    sign = found[0]
    if sign.isprintable() and _is_had(sign):
        return sign
    return json.dumps(sign)[1:-1] if ord(sign) > 0x7F else f"\\u{ord(sign):04x}"


def _is_had(sign: str) -> bool:
    """Whether stdout has a character: a question mark in its place would be another name."""
    try:
        sign.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns."""
    rows = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def shortened(name: str, most: int = 60) -> str:
    """Return a name on one line, cut where it is longer than ``most``."""
    text = one_line(name)
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
        say(f"warning: {problem}", error=True)
    if problems:
        say(f"warning: {len(problems)} records left out{more}", error=True)
