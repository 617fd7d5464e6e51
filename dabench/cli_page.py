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
