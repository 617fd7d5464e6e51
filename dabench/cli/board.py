"""``dabench leaderboard`` and ``dabench diff``: what becomes of records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dabench.errors import ConfigError, StoreError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from dabench.registry.method_info import MethodInfo
    from dabench.store.records import Record, Store

_FEW = "too few tasks"


def add_options(leaderboard: argparse.ArgumentParser, diff: argparse.ArgumentParser) -> None:
    """Add what the two commands know."""
    add = leaderboard.add_argument
    add("--csv", metavar="FILE", help="default RESULTS/leaderboard/leaderboard.csv")
    add(
        "--against",
        metavar="ROW",
        default="source",
        help="row that differences are paired with by seed: source, source+bn, shot ...",
    )
    tables = "one table a protocol and data set, a line a method, a column a task, as"
    add("--wide", metavar="DIR", help=f"{tables} CSV")
    add("--markdown", metavar="DIR", help=f"{tables} Markdown")
    add("--latex", metavar="DIR", help=f"{tables} LaTeX (booktabs)")
    add(
        "--ranks",
        metavar="DIR",
        help="mean ranks and signed-rank tests over tasks: printed, and a picture a protocol (SVG)",
    )
    add(
        "--selection",
        metavar="RULES",
        help="rules that choose the epoch, side by side: last,im,snd,entropy,oracle",
    )
    add("--claims", action="store_true", help="print what papers report beside what was measured")
    add(
        "--bootstrap",
        action="store_true",
        help="add intervals over samples (fixed models), from the predictions beside the records",
    )
    add(
        "--strict", action="store_true", help="fail where a record is damaged, instead of a warning"
    )
    for name in ("a", "b"):
        help_text = "a run id, its beginning, or a path"
        diff.add_argument(name, metavar=f"RUN_{name.upper()}", help=help_text)


def leaderboard(args: argparse.Namespace) -> int:
    """Make the table of all records, and what else is asked for.

    Raises:
        StoreError: no records, an unwritable folder, or under ``--strict`` a damaged record.
        ConfigError: there is no row ``--against``.
    """
    if args.only and not args.html:
        raise ConfigError("--only chooses the columns of --html; give both, or neither")
    if args.selection is not None:
        return _selection(args)
    if args.html:
        from dabench.cli.page import leaderboard_page

        leaderboard_page(args)
        others = (args.csv, args.wide, args.markdown, args.latex, args.ranks, args.claims)
        if not any((*others, args.bootstrap)):
            return 0
    from dabench.board.tables.leaderboard import table, write_csv
    from dabench.cli import output as cli_output
    from dabench.registry.method_info import registered
    from dabench.store.records import Store

    store, info = Store(Path(args.results), curves=False), registered()
    runs = _records(store, strict=args.strict)
    frame = table((record for _, record in runs), args.against, info)
    _check_against(frame, args.against)
    if args.bootstrap:
        from dabench.board.statistics.sample_table import with_bootstrap

        by_id = {str(record["run_id"]): (path, record) for path, record in runs}
        frame = with_bootstrap(frame, by_id, info)
    path = Path(args.csv) if args.csv else store.root / "leaderboard" / "leaderboard.csv"
    write_csv(frame, path)
    cli_output.show_table(frame)
    print(f"table: {path}")
    _export(args, frame, info)
    if args.ranks:
        _ranks(frame, info, args.against, Path(args.ranks))
    if args.claims:
        _claims(frame, store.root / "claims.csv")
    return 0


def _selection(args: argparse.Namespace) -> int:
    """Write and print what every rule of ``--selection`` makes of the records."""
    from dabench.board.tables.leaderboard import write_csv
    from dabench.board.tables.selection import side_by_side
    from dabench.cli import output as cli_output
    from dabench.registry.method_info import registered
    from dabench.store.records import Store

    others = ("html", "wide", "markdown", "latex", "ranks", "claims", "bootstrap")
    for name in others:
        if getattr(args, name):
            raise ConfigError(
                f"--selection and --{name}: tables show the last epoch alone; give them in "
                "commands of their own"
            )
    store, info = Store(Path(args.results)), registered()
    records = [record for _, record in _records(store, strict=args.strict)]
    rules = list(dict.fromkeys(rule.strip() for rule in args.selection.split(",")))
    frame = side_by_side(records, rules, args.against, info)
    _check_against(frame, args.against)
    path = Path(args.csv) if args.csv else store.root / "leaderboard" / "selection.csv"
    write_csv(frame, path)
    cli_output.show_rules(frame, rules)
    print(f"table: {path}")
    return 0


def _records(store: Store, *, strict: bool) -> list[tuple[Path, Record]]:
    """Read the store; what is damaged is named and counted, failed runs are counted."""
    from dabench.cli.output import warn_of_damage

    runs = store.read()
    warn_of_damage(store.problems, strict=strict)
    failed = len(store.failed())
    if failed:
        print(f"warning: {failed} runs failed and have no scores", file=sys.stderr)
    if not runs:
        raise StoreError(f"no records in {store.records}; 'dabench run' makes them")
    return runs


def _line(text: str) -> str:
    from dabench.board.tables.markup import plain

    return plain(text)


def _check_against(frame: pd.DataFrame, against: str) -> None:
    """Refuse a row that is not there; the one that nobody asked for may be missing."""
    rows = set((frame["method"] + " " + frame["variant"]).str.strip())
    if against == "source" and against not in rows:
        print("note: no run of source yet, so there are no differences to it", file=sys.stderr)
    elif against not in rows:
        raise ConfigError(f"--against {against}: no such row{did_you_mean(against, rows)}")


def _export(args: argparse.Namespace, frame: pd.DataFrame, info: MethodInfo) -> None:
    from dabench.board.tables import markup
    from dabench.board.tables.wide import Wide, wide

    kinds: list[tuple[str | None, str, Callable[[Wide], str]]] = [
        (args.wide, "csv", markup.to_csv),
        (args.markdown, "md", markup.to_markdown),
        (args.latex, "tex", markup.to_latex),
    ]
    for folder, ending, shape in kinds:
        for found in wide(frame, info) if folder else []:
            _write(Path(str(folder)) / f"{found.name}.{ending}", shape(found))


def _write(path: Path, text: str) -> None:
    from dabench.store.files import write_atomically

    content = text.encode()
    write_atomically(path, lambda file: (file.write(content), None)[1])
    print(f"written: {path}")


def _ranks(frame: pd.DataFrame, info: MethodInfo, against: str, folder: Path) -> None:
    from dabench.board.statistics.rank_figure import rank_svg
    from dabench.board.statistics.ranks import ranking, task_words
    from dabench.board.statistics.tasks import over_tasks, task_grid
    from dabench.cli.output import number, print_columns

    for protocol in sorted(frame["protocol"].unique()):
        grid = task_grid(frame, info, protocol)
        found = ranking(grid)
        print(f"\n{protocol} · ranks over tasks")
        if found.note:
            print(f"  {found.note}")
        else:
            rows = [["row", "mean rank"]]
            rows += [[_line(r), f"{k:.2f}"] for r, k in zip(found.rows, found.ranks, strict=True)]
            print_columns(rows)
            print(f"critical difference {found.difference:.2f}, {task_words(found.tasks)}")
        for row, reason in found.left_out.items():
            if not (found.note and reason.startswith(_FEW)):
                print(f"  not ranked: {_line(row)}: {reason}")
        tests = [["row", f"mean − {against}", "tasks", "p (Holm)", ""]]
        for test in over_tasks(grid, against):
            p = number(test.p_holm)
            tests.append(
                [_line(test.row), number(test.mean, signed=True), str(test.tasks), p, test.verdict]
            )
        print_columns(tests if any(row[3] != "-" for row in tests[1:]) else [])
        _write(folder / f"ranks-{protocol}.svg", rank_svg(found))


def _claims(frame: pd.DataFrame, path: Path) -> None:
    from dabench.board.tables.claims import claims, read_claims
    from dabench.cli.output import number, print_columns

    found = claims(frame, read_claims(path))
    beside = found[found["row"] != ""]
    print(f"\nreported by papers ({path}): {len(found)} numbers, {len(beside)} beside rows of ours")
    if len(found) and not len(beside):
        print("none of them has a row of ours on the same task; 'dabench sweep' can make some")
    rows = [["claim", "data", "metric", "reported", "measured", "our row", "differs"]]
    for line in beside.to_dict("records"):
        task = f"{line['dataset']} {line['source']}→{line['target']}"
        values = [number(line["value"]), number(line["measured"])]
        rows.append([line["claim"], task, line["metric"], *values, line["row"], line["differs"]])
    print_columns([[_line(str(word)) for word in row] for row in rows] if len(rows) > 1 else [])


def diff(args: argparse.Namespace) -> int:
    """Say why two runs are (not) comparable, and if they are how their scores differ.

    Raises:
        StoreError: a run is not there, fits several, or is damaged.
    """
    from dabench.board.tables.diff import compare_runs
    from dabench.cli.output import number, print_columns
    from dabench.store.records import Store, load_checked

    store = Store(Path(args.results))
    paths = [Path(run) if run.endswith(".json") else store.find(run) for run in (args.a, args.b)]
    a, b = (load_checked(path) for path in paths)
    found = compare_runs(a, b)
    for name, words in zip("AB", found.names, strict=True):
        print(f"{name}: {_line(words)}")
    print("comparable" if found.comparable else "not comparable:")
    for line in found.reasons:
        print(f"  {_line(line)}")
    for title, lines in (("compared", found.compared), ("differs besides", found.remarks)):
        if lines:
            print(f"{title}:")
        for line in lines:
            print(f"  {_line(line)}")
    if found.scores:
        label = ""
        rows = [["metric", "A", "B", "A − B", ""]]
        for metric, (x, y) in found.scores.items():
            gap = None if x is None or y is None else x - y
            interval, told = _interval((paths[0], a), (paths[1], b), metric)
            label = label or told
            rows.append([metric, number(x), number(y), number(gap, signed=True), interval])
        rows[0][-1] = label
        print_columns([[_line(word) for word in row] for row in rows])
    return 0


def _interval(a: tuple[Path, Record], b: tuple[Path, Record], metric: str) -> tuple[str, str]:
    """Return the interval over samples and what it is, where both runs kept their predictions."""
    from dabench.board.statistics.bootstrap import bootstrap, mismatch
    from dabench.cli.output import number
    from dabench.store.samples import units

    ours, theirs = units(*a, metric), units(*b, metric)
    if ours is None or theirs is None or mismatch(ours, theirs):
        return "", ""
    found = bootstrap([(ours, theirs)])
    low, high = number(found.low, signed=True), number(found.high, signed=True)
    return f"[{low}, {high}]", f"95 %: {found.label}"
