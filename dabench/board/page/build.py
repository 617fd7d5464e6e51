"""The leaderboard as one page: ``dabench leaderboard --html DIR``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from dabench.board.page.blocks import Block, blocks, group_runs
from dabench.board.page.card_entry import card_entry
from dabench.board.page.compare_data import compare_data
from dabench.board.page.dialog_data import page_data, to_json
from dabench.board.page.page_records import PageRecords
from dabench.board.page.render import render, write_page
from dabench.board.page.tabs import block_charts, tabs
from dabench.board.page.values import HEAT
from dabench.board.statistics.seeds import MIN_PAIRS
from dabench.board.statistics.tasks import MIN_TASKS
from dabench.board.tables.card_figures import Figure
from dabench.board.tables.cards import Card
from dabench.board.tables.leaderboard import table
from dabench.errors import StoreError, did_you_mean
from dabench.registry.method_info import REGISTERED, MethodInfo

#: lines up to which every block has charts and many metrics
CHARTED = 2_500
#: lines of tables that fit into the page; blocks beyond them are named alone
TABLED = 14_000


def leaderboard_page(
    gathered: PageRecords,
    against: str = "source",
    info: MethodInfo = REGISTERED,
    cards: Sequence[tuple[Card, Figure | None]] = (),
) -> bytes:
    """Return the page of all records.

    Args:
        gathered: the records, reduced.
        against: the row that differences are paired with.
        info: baselines, the upper bound and the metrics that rank.
        cards: what others published, with our figures; they have a tab of their own.

    Raises:
        StoreError: there is no record, or no row ``against`` (``source`` may be missing).
    """
    records = gathered.records
    if not records:
        raise StoreError("no records to show; 'dabench run' makes them")
    groups = group_runs(records)
    names = {row.name for rows in groups.values() for row in rows}
    if against != "source" and against not in names:
        raise StoreError(f"--against {against}: no such row{did_you_mean(against, names)}")
    lines = sum(len(rows) for rows in groups.values())
    compact = lines > CHARTED or not gathered.detail
    frame = table(records, against, info)
    found = blocks(frame, groups, info, against, compact=compact)
    _number(found)
    shown = tabs(found, frame, info, against, compact=compact)
    data = page_data([b for b in found if not b.brief], detail=gathered.detail)
    data["compare"] = compare_data(shown, against, ablations=gathered.detail)
    return render(
        "leaderboard.html.j2",
        tabs=shown,
        charts={} if compact else {block.key: block_charts(block) for block in found},
        data=Markup(to_json(data)),  # escaped there
        against=against,
        heat_steps=HEAT,
        min_tasks=MIN_TASKS,
        min_pairs=MIN_PAIRS,
        cards=[card_entry(card, ours) for card, ours in cards],
        compact=compact,
        detail=gathered.detail,
        runs=len(records),
        columns=len(found),
        problems=gathered.problems,
        failed=gathered.failed,
    )


def write_leaderboard(
    gathered: PageRecords,
    folder: Path,
    against: str = "source",
    info: MethodInfo = REGISTERED,
    cards: Sequence[tuple[Card, Figure | None]] = (),
) -> Path:
    """Write ``folder/index.html`` and return its path (raises as ``leaderboard_page``)."""
    path = folder / "index.html"
    write_page(path, leaderboard_page(gathered, against, info, cards))
    return path


def _number(found: Sequence[Block]) -> None:
    """Number the cells, and mark the blocks for which there is no room."""
    lines = number = 0
    for block in found:
        lines += len(block.lines)
        block.brief = lines > TABLED
        for line in block.lines:
            line.number = -1 if block.brief else number
            number += not block.brief
