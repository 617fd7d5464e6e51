"""The leaderboard as one page: ``dabench leaderboard --html DIR``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from dabench import __version__
from dabench.board.leaderboard import grouped, table
from dabench.board.page import words
from dabench.board.page.bars import axis_end, bars, rank_chart, strip
from dabench.board.page.cells import Block, Line, blocks
from dabench.board.page.courses import Course, course
from dabench.board.page.data import page_data, to_json
from dabench.board.page.gather import Gathered
from dabench.board.page.ranks import ranks
from dabench.board.page.render import render, write_page
from dabench.board.page.scatter import MEASURES, cost
from dabench.board.page.svg import ceiling
from dabench.errors import StoreError

#: lines up to which every block has charts and many metrics
CHARTED = 2_500
#: lines of tables that fit into the page; blocks beyond them are named alone
TABLED = 15_000
#: tasks that are drawn, and shown side by side, at the head of a tab
PANELS, ABREAST = 12, 12


@dataclass
class Overview:
    """All tasks side by side: ``rows`` are (line of each block or None)."""

    blocks: list[Block]
    rows: list[tuple[Line, list[Line | None]]]


@dataclass
class Tab:
    """What a protocol's tab shows."""

    protocol: str
    about: str
    ranked: str
    blocks: list[Block]
    overview: Overview
    panels: list[tuple[Block, Markup]]
    ranking: Markup | str
    explained: list[words.Explained]
    runs: int = 0


@dataclass
class BlockCharts:
    """A block's charts, where there is room for them."""

    course: Course | None
    costs: list[Markup]
    strips: dict[int, Markup]


def leaderboard_page(gathered: Gathered, against: str = "source") -> bytes:
    """Return the page of all records.

    Args:
        gathered: the records, reduced.
        against: the row that differences are paired with.

    Raises:
        StoreError: there is no record.
    """
    records = gathered.records
    if not records:
        raise StoreError("no records to show; 'dabench run' makes them")
    groups = grouped(records)
    lines = sum(len(rows) for rows in groups.values())
    compact = lines > CHARTED or not gathered.detail
    found = blocks(table(records, against), groups, compact=compact)
    _shorten(found)
    data = page_data([b for b in found if not b.brief], detail=gathered.detail)
    return render(
        "leaderboard.html.j2",
        tabs=_tabs(found, compact=compact),
        charts={} if compact else {block.key: _charts(block) for block in found},
        data=Markup(to_json(data)),
        against=against,
        compact=compact,
        detail=gathered.detail,
        runs=len(records),
        columns=len(found),
        problems=gathered.problems,
        failed=gathered.failed,
        version=__version__,
    )


def write_leaderboard(gathered: Gathered, folder: Path, against: str = "source") -> Path:
    """Write ``folder/index.html`` and return its path."""
    path = folder / "index.html"
    write_page(path, leaderboard_page(gathered, against))
    return path


def _shorten(found: Sequence[Block]) -> None:
    """Mark the blocks for which there is no room; cells of the others keep their order."""
    lines = number = 0
    for block in found:
        lines += len(block.lines)
        block.brief = lines > TABLED
        for line in block.lines:
            line.number = -1 if block.brief else number
            number += not block.brief


def _tabs(found: Sequence[Block], *, compact: bool) -> list[Tab]:
    by_protocol: dict[str, list[Block]] = defaultdict(list)
    for block in found:
        by_protocol[block.spec["protocol"]].append(block)
    order = {name: place for place, name in enumerate(words.PROTOCOLS)}
    names = sorted(by_protocol, key=lambda name: (order.get(name, len(order)), name))
    return [_tab(name, by_protocol[name]) for name in names]


def _tab(protocol: str, found: list[Block]) -> Tab:
    wide = [block for block in found if len(block.main) > 1 and not block.brief]
    most = sorted(wide, key=lambda block: -len(block.main))[:PANELS]
    drawn = [block for block in found if block in most]
    end = axis_end(drawn)
    ranking = ranks(found)
    shown = rank_chart(ranking).markup if ranking.mean else ranking.reason
    metrics = [name for block in found[:PANELS] for name in (block.metric, *block.metrics)]
    return Tab(
        protocol=protocol,
        about=words.about(protocol),
        ranked=words.ranked_by(protocol, found[0].metric),
        blocks=found,
        overview=_overview(drawn[:ABREAST]),
        panels=[(block, bars(block, end).markup) for block in drawn],
        ranking=shown,
        explained=words.explain(metrics),
        runs=sum(len(line.runs) for block in found for line in block.lines),
    )


def _overview(found: list[Block]) -> Overview:
    """Put the tasks side by side: rows that are no ablation, the best on average first."""
    by_name: dict[str, dict[str, Line]] = defaultdict(dict)
    for block in found:
        for line in block.main:
            by_name[line.name][block.key] = line
    rows = []
    for lines in by_name.values():
        row = [lines.get(block.key) for block in found]
        rows.append((next(iter(lines.values())), row))
    kinds = {"baseline": 0, "method": 1, "bound": 2}
    rows.sort(key=lambda row: (kinds[row[0].kind], row[0].name))
    return Overview(found, rows)


def _charts(block: Block) -> BlockCharts:
    known = [line for line in block.lines if block.metric in line.values]
    values = [line.values[block.metric] for line in known]
    end = ceiling(max([v.mean if v.high is None else v.high for v in values], default=1.0))
    scatters = (cost(block, measure) for measure in MEASURES)
    return BlockCharts(
        course=course(block),
        costs=[scatter.markup for scatter in scatters if scatter is not None],
        strips={line.number: strip(line.values[block.metric], end).markup for line in known},
    )
