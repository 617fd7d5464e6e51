"""The table of the front page: the best method of every protocol, held against the source model.

Kind ``best``, without parameters. A line is the row with the best mean difference to ``source``,
or to ``source+bn`` where it starts from that:

- A method stands at its usual start and its defaults, else at the only options that it has; its
  other rows are ablations. Upper bounds are left out, and rows that answer after their update.
- A baseline, which learns nothing (``bn-adapt``), is named as one where it is the best.
- A task is a column of the leaderboard, seeds averaged first, and columns that differ in budget or
  source model alone are one. Only methods count that were run in more than half of the tasks that
  ``source`` has: the best of the easy ones is not the best. Where some row of a protocol has three
  runs in a column, rows and columns with fewer do not count: luck is not the best either.
- The interval is Student's t over tasks; with one task alone it is that over seeds (the range, if
  there are several source models), and with two to four tasks the range stands in its place. A
  line whose interval holds 0 says so.
- What a method was granted beyond its protocol stands behind its name, as on the page: ``+buffer``.
- Where some tasks start from ``source+bn``, both starts are named, of the method and of ``source``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

import pandas as pd
from table_cells import Params, markdown, number

from dabench import registry
from dabench.board.statistics.seeds import MIN_PAIRS, better_sign, summarise
from dabench.board.statistics.tasks import by_task, primary_lines
from dabench.config.spec import usual_init
from dabench.registry.method_info import ANSWERS_AFTER, registered_info
from dabench.store.identity import task_of
from dabench.store.rows import version_order

HEAD = ("setting", "best method", "metric", "`source`", "method", "difference", "tasks")
#: the settings in words; the code stands behind them
WORDS = {
    "sf-osda": "source-free, open set",
    "sf-uda": "source-free, closed set",
    "sf-pda": "source-free, partial set",
    "sf-unida": "source-free, universal sets",
    "sf-msda": "source-free, several source models",
    "bb-uda": "black box",
    "bb-osda": "black box, open set",
    "gradual-weather": "worsening weather",
    "online-tta": "stream, reset at each shift",
    "continual-tta": "stream without a reset",
    "online-seg": "segmentation, frame by frame",
}
_REFERENCE = "source"
_RUNS = 3
Line = Mapping[str, Any]


class RecordTables(Protocol):
    """The part of ``tables.Tables`` that is needed here."""

    def lines(self, against: str) -> pd.DataFrame:
        """Return all lines of the leaderboard."""


def best(tables: RecordTables, params: Params) -> str:
    """Return a line a protocol that has records."""
    info, lines = registered_info(), []
    for start in ("", "+bn"):  # like against like
        against = primary_lines(tables.lines(_REFERENCE + start), info)
        lines.append(against[against["method"].str.endswith("+bn") == bool(start)])
    frame = pd.concat(lines)
    found = [
        _line(protocol, *chosen)
        for protocol in registry.PROTOCOLS
        if (chosen := best_method(frame[frame["protocol"] == protocol]))
    ]
    return markdown([HEAD, *found])


def best_method(frame: pd.DataFrame) -> tuple[str, list[Line]] | None:
    """Return the best method of one protocol's lines, and its line in every task."""
    several = frame[frame["n"] >= _RUNS]
    known_well = {*several["method"]} - {_REFERENCE, f"{_REFERENCE}+bn"}
    rows = _rows(several if known_well else frame)
    tasks = len({task_of(column) for column in rows.pop((_REFERENCE, ""), {})})
    known = defaultdict(list)
    for method, variant in rows:
        known[method].append(variant)
    candidates = {}
    for method, variants in known.items():
        if "" in variants or len(variants) == 1:
            variant = "" if "" in variants else variants[0]
            lines = [li for li in rows[method, variant].values() if not math.isnan(li["diff_mean"])]
            if lines and 2 * len(_gains(lines)) > tasks:
                candidates[f"{method} {variant}".strip()] = lines
    if not candidates:
        return None
    # the first name of equals, so that the page does not depend on the records' order
    name = min(candidates, key=lambda name: (-_mean_gain(candidates[name]), name))
    return name, candidates[name]


def _rows(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, Line]]:
    """Return (method, changed options) -> task -> line, the newest version at the usual start."""
    rows: dict[tuple[str, str], dict[str, Line]] = defaultdict(dict)
    for line in frame.to_dict("records"):
        method, plus, _ = line["method"].partition("+bn")
        usual = method in registry.METHODS and plus == (
            "+bn" if usual_init(registry.method(method), line["weights"]) == "bn-target" else ""
        )
        aside = line["oracle"] or line["target_tuned"]
        ranked = not aside and ANSWERS_AFTER not in line["extras"].split()
        if not usual or not ranked or line["note"] or math.isnan(line["mean"]):
            continue
        there = rows[method, line["variant"]].get(line["column"])
        if there is None or version_order(line["version"]) > version_order(there["version"]):
            rows[method, line["variant"]][line["column"]] = line
    return rows


def _by_task(lines: list[Line], field: str) -> list[float]:
    """Return a field's means over the columns of each task."""
    return list(by_task({line["column"]: line[field] for line in lines}).values())


def _gains(lines: list[Line]) -> list[float]:
    """Return the differences by task, turned so that more is better."""
    turned = {line["column"]: better_sign(line["metric"]) * line["diff_mean"] for line in lines}
    return list(by_task(turned).values())


def _mean_gain(lines: list[Line]) -> float:
    gains = _gains(lines)
    return math.fsum(gains) / len(gains)


def _line(protocol: str, name: str, lines: list[Line]) -> list[str]:
    metrics = ", ".join(dict.fromkeys(line["metric"] for line in lines))
    means = _by_task(lines, "mean")
    mean = math.fsum(means) / len(means)
    gap = summarise(_by_task(lines, "diff_mean"))
    columns = summarise([line["diff_mean"] for line in lines])
    low, high = (gap.low, gap.high) if gap.n > 1 else (lines[0]["diff_low"], lines[0]["diff_high"])
    below = sum(gain < 0 for gain in _gains(lines))
    notes = f", below `source` in {below}" if below else ""
    span = f" [{number(low, '+')}, {number(high, '+')}]"
    seeds = max(line["n"] for line in lines)
    if gap.n == 1 and seeds < MIN_PAIRS:
        span, notes = "", f"{notes}, {seeds} seed{'s' if seeds > 1 else ''}: no verdict"
    elif columns.n > 1 and gap.n < MIN_PAIRS:
        spread = gap if gap.n > 1 else columns
        span = f" ({number(spread.least, '+')} to {number(spread.most, '+')})"
        notes += ", range" if gap.n > 1 else f", range of {columns.n} columns"
    elif not (low > 0 or high < 0):  # without an interval, or with 0 within it
        notes += ", not told apart"
    extras = sorted({extra for line in lines for extra in line["extras"].split()})
    marks = ["(reconstruction)"] if any(line["reconstruction"] for line in lines) else []
    marks += ["(baseline)"] if name in registry.METHODS and registry.METHODS[name].baseline else []
    bare, _, variant = name.partition(" ")
    starts = sorted({line["method"].removeprefix(bare) for line in lines})  # "", "+bn"
    names = " / ".join(f"`{f'{bare}{start} {variant}'.strip()}`" for start in starts)
    references = " / ".join(f"`{_REFERENCE}{start}`" for start in starts)
    return [
        f"{WORDS.get(protocol, 'of a plug-in')} (`{protocol}`)",
        " ".join([names, *(f"`+{extra}`" for extra in extras), *marks]),
        metrics,
        number(mean - gap.mean) + (f" ({references})" if starts != [""] else ""),
        number(mean),
        number(gap.mean, "+") + span,
        f"{gap.n}{notes}",
    ]
