"""A protocol's tab: its tasks as charts and side by side, and its blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from dabench.board.page import texts
from dabench.board.page.bars import axis_end, bar_chart, interval_strip
from dabench.board.page.blocks import Block
from dabench.board.page.overview import Overview, RowLines, overview, rows_by_task
from dabench.board.page.scatter import MEASURES, cost_scatter
from dabench.board.page.stream_chart import StreamChart, stream_chart
from dabench.board.page.svg import axis_ceiling
from dabench.board.page.titles import column_heads, natural_order
from dabench.registry.method_info import MethodInfo

#: tasks that are drawn and shown side by side at the head of a tab; drawn in a page of many rows
SIDE_BY_SIDE, FEW_PANELS = 30, 12


@dataclass
class Tab:
    """What a protocol's tab shows.

    Attributes:
        panels: tasks with their bars.
        columns: tasks side by side, by title.
        heads: what stands over them.
        rows: rows by task; (first line of the row, its line in each column's task).
        overview: what the overview says of the protocol.
        explained: its metrics.
        marks: what stands behind names of rows.
    """

    protocol: str
    about: str
    ranked: str
    blocks: list[Block]
    panels: list[tuple[Block, Markup]]
    columns: list[Block]
    heads: list[str]
    rows: list[RowLines]
    overview: Overview
    explained: list[texts.Explained]
    marks: list[texts.Explained]
    runs: int

    @property
    def ablations(self) -> int:
        """Number of rows with changed options, which are shown on demand."""
        return sum(len(block.lines) - len(block.main) for block in self.blocks if not block.brief)


class CostChart(NamedTuple):
    """A chart of a metric against a cost, and what that is called."""

    against: str
    markup: Markup


@dataclass
class BlockCharts:
    """A block's charts, where there is room for them; ``strips`` by number of a line."""

    stream_chart: StreamChart | None
    costs: list[CostChart]
    strips: dict[int, Markup]


def tabs(
    found: Sequence[Block],
    frame: pd.DataFrame,
    info: MethodInfo,
    against: str,
    *,
    compact: bool = False,
) -> list[Tab]:
    """Return a tab a protocol.

    Args:
        found: all blocks.
        frame: the leaderboard.
        info: baselines, the upper bound and the metrics that rank.
        against: the row that others are held against.
        compact: draw few tasks.
    """
    panels = FEW_PANELS if compact else SIDE_BY_SIDE
    by_protocol: dict[str, list[Block]] = defaultdict(list)
    for block in found:
        by_protocol[block.spec["protocol"]].append(block)
    order = {name: place for place, name in enumerate(texts.GRANTS)}
    names = sorted(by_protocol, key=lambda name: (order.get(name, len(order)), name))
    return [
        _tab(by_protocol[name], overview(name, by_protocol[name], frame, info, against), panels)
        for name in names
    ]


def block_charts(block: Block) -> BlockCharts:
    """Return the charts of one block."""
    known = [line for line in block.lines if block.metric in line.values]
    values = [line.values[block.metric] for line in known]
    end = axis_ceiling(max([v.mean if v.high is None else v.high for v in values], default=1.0))
    scatters = ((measure, cost_scatter(block, measure)) for measure in MEASURES)
    return BlockCharts(
        stream_chart=stream_chart(block),
        costs=[CostChart(measure.short, found.markup) for measure, found in scatters if found],
        strips={
            line.number: interval_strip(line.values[block.metric], end).markup for line in known
        },
    )


def _tab(found: list[Block], over: Overview, panels: int) -> Tab:
    wide = [block for block in found if len(block.scored) > 1 and not block.brief]
    ranked = [block.key for block in sorted(wide, key=lambda block: -len(block.main))]
    drawn = [block for block in found if block.key in ranked[:panels]]
    columns = [block for block in found if block.key in ranked[:SIDE_BY_SIDE]]
    columns.sort(key=lambda block: natural_order(block.title))
    end = axis_end(drawn)
    metrics = [name for block in found[:SIDE_BY_SIDE] for name in (block.metric, *block.metrics)]
    return Tab(
        protocol=over.protocol,
        about=texts.protocol_summary(over.protocol),
        ranked=texts.ranked_by(over.protocol, found[0].metric),
        blocks=found,
        panels=[(block, bar_chart(block, end).markup) for block in drawn],
        columns=columns,
        heads=column_heads(block.title for block in columns),
        rows=_ordered(rows_by_task(columns), over) if len(columns) > 1 else [],
        overview=over,
        explained=texts.explain(metrics),
        marks=texts.explain_marks(m for b in found for line in b.lines for m in line.marks),
        runs=sum(len(line.runs) for block in found for line in block.lines),
    )


def _ordered(rows: list[RowLines], over: Overview) -> list[RowLines]:
    """Put the rows in the order of the overview."""
    place = {found.line.name: number for number, found in enumerate(over.standings)}
    return sorted(rows, key=lambda row: place[row[0].name])
