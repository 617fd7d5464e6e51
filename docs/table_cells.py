"""What the tables of the pages have in common: numbers, differences, names, Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dabench.board.statistics.seeds import MIN_PAIRS
from dabench.store.records import Record

UPPER_BOUND = "target-supervised"
#: the ``name=value`` parameters of a table's mark
Params = dict[str, str]


def number(value: float | None, sign: str = "") -> str:
    """Return three digits, or a dash for a hole; ``sign="+"`` shows a plus."""
    return "–" if value is None or pd.isna(value) else f"{value:{sign}.3f}"


def difference(line: Any) -> str:
    """Return a leaderboard line's paired difference, from ``MIN_PAIRS`` on with its interval.

    Args:
        line: a row of the leaderboard's frame, or its dict.
    """
    if pd.isna(line["diff_mean"]):
        return "–"
    mean = number(line["diff_mean"], "+")
    if line["diff_n"] < MIN_PAIRS:
        return mean
    low, high = (number(line[name], "+") for name in ("diff_low", "diff_high"))
    return f"{mean} [{low}, {high}] {line['verdict']}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table whose first line is its head."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])


def listed(params: Params, name: str, default: str = "") -> list[str]:
    """Return the comma-separated values of a word; ``~`` stands for a space."""
    return [v.replace("~", " ") for v in params.get(name, default).split(",") if v]


def row_of(record: Record) -> tuple[str, str]:
    """Return a record's row and variant as the leaderboard names them."""
    spec, options = record["spec"], record["variant"]
    text = " ".join(f"{name}={options[name]}" for name in sorted(options))
    return spec["method"] + ("+bn" if spec["init"] == "bn-target" else ""), text


def reading_order(row: str) -> tuple[int, str]:
    """Return what sorts rows as they are read: source, its linear probe, methods, upper bound."""
    plain = row.partition(" ")[0].removesuffix("+bn")
    return ({"source": 0, "linear-probe": 1, UPPER_BOUND: 3}.get(plain, 2), row)
