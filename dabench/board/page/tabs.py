"""A protocol's tab: its tasks as charts and side by side, ranks over them, and its blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from dabench.board.page import texts
from dabench.board.page.bars import axis_end, bar_chart, interval_strip
from dabench.board.page.blocks import Block
from dabench.board.page.lines import Line
from dabench.board.page.scatter import MEASURES, cost_scatter
from dabench.board.page.stream_chart import StreamChart, stream_chart
from dabench.board.page.svg import axis_ceiling
from dabench.board.statistics.rank_figure import rank_svg
from dabench.board.statistics.ranks import describe_tasks, ranking
from dabench.board.statistics.tasks import TaskTest, task_grid, task_tests
from dabench.registry.method_info import MethodInfo

#: tasks that are drawn, and that are shown side by side, at the head of a tab
PANELS, SIDE_BY_SIDE = 12, 30


@dataclass
class Ranks:
    """Mean ranks over tasks: a picture, or why there is none; and tests over tasks.

    Attributes:
        tasks: what the ranks go over, in words.
        left_out: rows that are not ranked, with the reason.
    """

    picture: Markup | None
    reason: str
    tests: list[TaskTest]
    tasks: str = ""
    left_out: tuple[str, ...] = ()


@dataclass
class Tab:
    """What a protocol's tab shows.

    Attributes:
        panels: tasks with their bars.
        columns: tasks side by side.
        overview: rows by task; (first line of the row, its line in each column's task).
    """

    protocol: str
    about: str
    ranked: str
    blocks: list[Block]
    panels: list[tuple[Block, Markup]]
    columns: list[Block]
    overview: list[tuple[Line, list[Line | None]]]
    ranks: Ranks
    explained: list[texts.Explained]
    runs: int


@dataclass
class BlockCharts:
    """A block's charts, where there is room for them; ``strips`` by number of a line."""

    stream_chart: StreamChart | None
    costs: list[Markup]
    strips: dict[int, Markup]


def tabs(found: Sequence[Block], frame: pd.DataFrame, info: MethodInfo, against: str) -> list[Tab]:
    """Return a tab a protocol.

    Args:
        found: all blocks.
        frame: the leaderboard.
        info: baselines, the upper bound and the metrics that rank.
        against: the row that others are held against.
    """
    by_protocol: dict[str, list[Block]] = defaultdict(list)
    for block in found:
        by_protocol[block.spec["protocol"]].append(block)
    order = {name: place for place, name in enumerate(texts.GRANTS)}
    names = sorted(by_protocol, key=lambda name: (order.get(name, len(order)), name))
    return [_tab(n, by_protocol[n], _ranks(n, frame, info, against)) for n in names]


def block_charts(block: Block) -> BlockCharts:
    """Return the charts of one block."""
    known = [line for line in block.lines if block.metric in line.values]
    values = [line.values[block.metric] for line in known]
    end = axis_ceiling(max([v.mean if v.high is None else v.high for v in values], default=1.0))
    scatters = (cost_scatter(block, measure) for measure in MEASURES)
    return BlockCharts(
        stream_chart=stream_chart(block),
        costs=[scatter.markup for scatter in scatters if scatter is not None],
        strips={
            line.number: interval_strip(line.values[block.metric], end).markup for line in known
        },
    )


def _tab(protocol: str, found: list[Block], ranks: Ranks) -> Tab:
    wide = [block for block in found if len(block.ranked) > 1 and not block.brief]
    ranked = [block.key for block in sorted(wide, key=lambda block: -len(block.main))]
    drawn = [block for block in found if block.key in ranked[:PANELS]]
    columns = [block for block in found if block.key in ranked[:SIDE_BY_SIDE]]
    end = axis_end(drawn)
    metrics = [name for block in found[:PANELS] for name in (block.metric, *block.metrics)]
    return Tab(
        protocol=protocol,
        about=texts.protocol_summary(protocol),
        ranked=texts.ranked_by(protocol, found[0].metric),
        blocks=found,
        panels=[(block, bar_chart(block, end).markup) for block in drawn],
        columns=columns,
        overview=_overview(columns) if len(columns) > 1 else [],
        ranks=ranks,
        explained=texts.explain(metrics),
        runs=sum(len(line.runs) for block in found for line in block.lines),
    )


def _ranks(protocol: str, frame: pd.DataFrame, info: MethodInfo, against: str) -> Ranks:
    grid = task_grid(frame, info, protocol)
    found = ranking(grid)
    if found.note:
        return Ranks(None, found.note, [])
    tests = [test for test in task_tests(grid, against) if test.p_holm is not None]
    # every word in the picture is escaped where it is drawn
    out = tuple(f"{row} ({why})" for row, why in sorted(found.left_out.items()))
    return Ranks(Markup(rank_svg(found)), "", tests, describe_tasks(found.tasks), out)


def _overview(found: Sequence[Block]) -> list[tuple[Line, list[Line | None]]]:
    """Put the tasks side by side: rows that are no ablation, baselines first, the bound last."""
    by_name: dict[str, dict[str, Line]] = defaultdict(dict)
    for block in found:
        for line in block.main:
            by_name[line.name][block.key] = line
    kinds = {"baseline": 0, "method": 1, "bound": 2}
    rows = [
        (next(iter(lines.values())), [lines.get(block.key) for block in found])
        for lines in by_name.values()
    ]
    return sorted(rows, key=lambda row: (kinds[row[0].kind], row[0].name))
