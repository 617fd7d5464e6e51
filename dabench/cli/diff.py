"""``dabench diff``: why two runs are (not) comparable, and how their scores differ."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dabench.cli.output import number, print_columns, say

if TYPE_CHECKING:
    from dabench.store.records import Record


def add_options(diff: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    for name in ("a", "b"):
        help_text = "a run id, its beginning, or a path"
        diff.add_argument(name, metavar=f"RUN_{name.upper()}", help=help_text)


def diff(args: argparse.Namespace) -> int:
    """Say why two runs are (not) comparable, and if they are how their scores differ.

    Raises:
        StoreError: a run is not there, fits several, or is damaged.
    """
    from dabench.board.tables.diff import compare_runs
    from dabench.store.reading import load_record
    from dabench.store.store import Store

    store = Store(Path(args.results))
    paths = [store.locate(run) for run in (args.a, args.b)]
    a, b = (load_record(path) for path in paths)
    found = compare_runs(a, b)
    for name, text in zip("AB", found.names, strict=True):
        say(f"{name}: {text}")
    say("comparable" if found.comparable else "not comparable:")
    for line in found.reasons:
        say(f"  {line}")
    for title, lines in (("compared", found.compared), ("differs besides", found.remarks)):
        if lines:
            say(f"{title}:")
        for line in lines:
            say(f"  {line}")
    if found.scores:
        label = ""
        rows = [["metric", "A", "B", "A − B", ""]]
        for metric, (x, y) in found.scores.items():
            gap = None if x is None or y is None else x - y
            interval, told = _interval((paths[0], a), (paths[1], b), metric)
            label = label or told
            interval += f" ({told})" if told != label else ""
            rows.append([metric, number(x), number(y), number(gap, signed=True), interval])
        rows[0][-1] = label
        print_columns(rows)
    return 0


def _interval(a: tuple[Path, Record], b: tuple[Path, Record], metric: str) -> tuple[str, str]:
    """Return the interval over samples and what it is, where both runs kept their predictions."""
    from dabench.board.statistics.bootstrap import bootstrap, mismatch
    from dabench.store.samples import sampling_units

    ours, theirs = sampling_units(*a, metric), sampling_units(*b, metric)
    if ours is None or theirs is None or mismatch(ours, theirs):
        return "", ""
    found = bootstrap([(ours, theirs)])
    low, high = number(found.low, signed=True), number(found.high, signed=True)
    return f"[{low}, {high}]", f"95 %: {found.label}"
