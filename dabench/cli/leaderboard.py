"""``dabench leaderboard``: the table of all records, and what else is made of it."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dabench.cli.output import number, print_columns, say, warn_of_damage
from dabench.errors import ConfigError, StoreError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from dabench.registry.method_info import MethodInfo
    from dabench.store.records import Record
    from dabench.store.store import Store

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def add_options(leaderboard: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    add = leaderboard.add_argument
    add(
        "--csv",
        metavar="FILE",
        help="default RESULTS/leaderboard/leaderboard.csv; compressed where the name ends in .gz",
    )
    add(
        "--against",
        metavar="ROW",
        default="source",
        help="row that differences are paired with by seed: source, source+bn, shot ...",
    )
    tables = "one table per protocol and data set, a line per method, a column per task, as"
    add("--wide", metavar="DIR", help=f"{tables} CSV")
    add("--markdown", metavar="DIR", help=f"{tables} Markdown")
    add("--latex", metavar="DIR", help=f"{tables} LaTeX (booktabs)")
    add(
        "--ranks",
        metavar="DIR",
        help="mean ranks and signed-rank tests over tasks: printed, and an SVG per protocol",
    )
    add(
        "--selection",
        metavar="RULES",
        help="rules that choose the epoch, side by side: "
        "last,im,snd,entropy,entropy-classes,oracle",
    )
    add("--claims", action="store_true", help="print what papers report beside what was measured")
    add(
        "--bootstrap",
        action="store_true",
        help="add intervals over samples (fixed models), from the predictions beside the records",
    )
    add(
        "--strict",
        action="store_true",
        help="read every file anew, and fail where a record is damaged, instead of a warning",
    )


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
    from dabench.board.tables.leaderboard import table
    from dabench.cli.table_output import show_table
    from dabench.registry.method_info import registered_info
    from dabench.store.store import Store

    store = Store(Path(args.results), curves=False, index=not args.strict)
    info = registered_info()
    runs = _records(store, strict=args.strict)
    frame = table((record for _, record in runs), args.against, info)
    _check_against(frame, args.against)
    if args.bootstrap:
        from dabench.board.statistics.bootstrap_table import with_bootstrap

        by_id = {str(record["run_id"]): (path, record) for path, record in runs}
        frame = with_bootstrap(frame, by_id, info)
    show_table(frame)
    _write_csv(frame, args.csv, store.root / "leaderboard" / "leaderboard.csv")
    _export(args, frame, info)
    if args.ranks:
        from dabench.cli.rank_output import show_ranks

        show_ranks(frame, info, args.against, Path(args.ranks))
    if args.claims:
        _claims(frame, store.root / "claims.csv")
    return 0


def _selection(args: argparse.Namespace) -> int:
    """Write and print what every rule of ``--selection`` makes of the records."""
    from dabench.board.tables.selection import side_by_side
    from dabench.cli.table_output import show_rules
    from dabench.registry.method_info import registered_info
    from dabench.store.store import Store

    others = ("html", "wide", "markdown", "latex", "ranks", "claims", "bootstrap")
    for name in others:
        if getattr(args, name):
            raise ConfigError(
                f"--selection and --{name}: tables show the last epoch alone; give them in "
                "commands of their own"
            )
    store, info = Store(Path(args.results)), registered_info()
    records = [record for _, record in _records(store, strict=args.strict)]
    rules = list(dict.fromkeys(rule.strip() for rule in args.selection.split(",")))
    frame = side_by_side(records, rules, args.against, info)
    _check_against(frame, args.against)
    show_rules(frame, rules)
    _write_csv(frame, args.csv, store.root / "leaderboard" / "selection.csv")
    return 0


def _write_csv(frame: pd.DataFrame, given: str | None, usual: Path) -> None:
    """Write the table; whoever may only read the results, and names no file, gets it printed."""
    from dabench.board.tables.csv_file import write_csv

    path = Path(given) if given else usual
    try:
        write_csv(frame, path)
    except StoreError as error:
        reason = error.__cause__
        if given or not isinstance(reason, OSError) or reason.errno not in _READ_ONLY:
            raise
        say(f"note: {error}, with --csv FILE", error=True)
    else:
        say(f"table: {path}")


def _records(store: Store, *, strict: bool) -> list[tuple[Path, Record]]:
    """Read the store; what is damaged is named and counted, failed runs are counted."""
    runs = store.read()
    warn_of_damage(store.problems, strict=strict)
    failed = len(store.failed())
    if failed:
        say(f"warning: {failed} runs failed and have no scores", error=True)
    if not runs:
        raise StoreError(f"no records in {store.records}; 'dabench run' makes them")
    return runs


def _check_against(frame: pd.DataFrame, against: str) -> None:
    """Refuse a row that is not there; the one that nobody asked for may be missing."""
    rows = set((frame["method"] + " " + frame["variant"]).str.strip())
    if against == "source" and against not in rows:
        say("note: no run of source yet, so there are no differences to it", error=True)
    elif against not in rows:
        raise ConfigError(f"--against {against}: no such row{did_you_mean(against, rows)}")


def _export(args: argparse.Namespace, frame: pd.DataFrame, info: MethodInfo) -> None:
    from dabench.board.tables import markup
    from dabench.board.tables.wide import WideTable, wide_tables

    kinds: list[tuple[str | None, str, Callable[[WideTable], str]]] = [
        (args.wide, "csv", markup.to_csv),
        (args.markdown, "md", markup.to_markdown),
        (args.latex, "tex", markup.to_latex),
    ]
    for folder, ending, shape in kinds:
        for found in wide_tables(frame, info) if folder else []:
            _write(Path(str(folder)) / f"{found.name}.{ending}", shape(found))


def _write(path: Path, text: str) -> None:
    from dabench.store.files import write_bytes_atomically

    write_bytes_atomically(path, text.encode())
    say(f"written: {path}")


def _claims(frame: pd.DataFrame, path: Path) -> None:
    from dabench.board.tables.claims import claims, read_claims

    say()
    if not path.exists():
        say(f"no claims: there is no {path}; copy the project's results/claims.csv there")
        return
    found = claims(frame, read_claims(path))
    beside = found[found["row"] != ""]
    say(f"reported by papers ({path}): {len(found)} numbers, {len(beside)} beside rows of ours")
    if len(found) and not len(beside):
        say("none of them has a row of ours on the same task; 'dabench sweep' can make some")
    rows = [["claim", "data", "metric", "reported", "measured", "our row", "differs"]]
    for line in beside.to_dict("records"):
        task = f"{line['dataset']} {line['source']}→{line['target']}"
        values = [number(line["value"]), number(line["measured"])]
        rows.append([line["claim"], task, line["metric"], *values, line["row"], line["differs"]])
    print_columns([list(map(str, row)) for row in rows] if len(rows) > 1 else [])
