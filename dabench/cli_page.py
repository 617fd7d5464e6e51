"""``dabench leaderboard --html`` and ``dabench report``: pages that need no network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dabench.errors import ConfigError, did_you_mean


def leaderboard_page(args: argparse.Namespace) -> int:
    """Write the leaderboard as one page.

    Args:
        args: what the parser of ``leaderboard`` found.

    Raises:
        DabenchError: no records, an unknown ``--against`` or ``--only``, a folder that cannot be
            written.
    """
    from dabench.board.leaderboard import grouped
    from dabench.board.page.build import write_leaderboard
    from dabench.board.page.gather import gather
    from dabench.board.records import Store

    store = Store(Path(args.results))
    gathered = gather(store, args.only)
    for problem in gathered.problems:
        print(f"warning: {problem}", file=sys.stderr)
    if not gathered.records:
        chosen = f" whose column begins with '{args.only}'" if args.only else ""
        raise ConfigError(f"no records in {store.records}{chosen}; 'dabench run' makes them")
    groups = grouped(gathered.records)
    rows = {f"{row.label} {row.variant}".strip() for cells in groups.values() for row in cells}
    if args.against not in rows:
        raise ConfigError(
            f"--against {args.against}: no such row{did_you_mean(args.against, rows)}"
        )
    path = write_leaderboard(gathered, Path(args.html), args.against)
    print(f"page: {path} ({len(gathered.records)} runs, {path.stat().st_size / 2**20:.1f} MiB)")
    return 0


def report(args: argparse.Namespace) -> int:
    """Write one run's report.

    Args:
        args: what the parser of ``report`` found.

    Raises:
        DabenchError: no such run, a damaged record, a file that cannot be written.
    """
    from dabench.board.leaderboard import baseline
    from dabench.board.page.render import write_page
    from dabench.board.page.report import report_page
    from dabench.board.records import Store, load

    store, given = Store(Path(args.results)), Path(args.run)
    path = given if given.suffix == ".json" else store.find(args.run)
    record = load(path)
    spec = record.get("spec") or {}
    folder = store.root / "runs" / str(record.get("run_id", "")).replace("/", "_") / "report"
    others = [r for _, r in store.all(spec.get("protocol", "*"), spec.get("dataset", "*"))]
    same = spec.get("method") == "source" and spec.get("init") == "source"
    base = None if same or record.get("failed") else baseline(others, spec)
    content = report_page(path, record, base, folder)
    target = Path(args.html) if args.html else folder / "index.html"
    write_page(target, content)
    print(f"report: {target}")
    return 0
