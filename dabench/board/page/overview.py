"""The overview: every protocol's rows over its tasks, with ranks where there are tasks enough."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from dabench.board.page.blocks import Block
from dabench.board.page.lines import Line
from dabench.board.statistics.holes import mean_of_known
from dabench.board.statistics.rank_figure import rank_svg
from dabench.board.statistics.ranks import Ranking, describe_tasks, rankings
from dabench.board.statistics.seeds import EQUAL, better_sign
from dabench.board.statistics.tasks import TaskTest, by_task, task_grid, task_tests
from dabench.registry.method_info import MethodInfo
from dabench.store.identity import task_of
from dabench.store.rows import version_order

#: a row and its line in each block; None = it has no run there
RowLines = tuple[Line, list[Line | None]]
_KINDS = {"baseline": 0, "method": 1, "bound": 2}


@dataclass(frozen=True)
class Standing:
    """A row over the tasks of a protocol.

    Attributes:
        line: one of its lines, for name and marks.
        tasks: in how many it has a score.
        rank: its mean rank; None where it is not ranked.
        verdicts: win, loss, tie or "" (no verdict) -> number of tasks.
        mean: mean over tasks of the differences to the row that all are held against, turned so
            that more is better; None where no task is shared.
        worst: the least of these differences, and its block.
        shared: number of shared tasks.
        below: in how many of them it is below that row.
        test: signed ranks over tasks; None where these do not suffice.
        passes: images forwarded and backwarded, an image of the target; mean over its tasks.
        seconds: of adaptation; mean over its tasks.
    """

    line: Line
    tasks: int
    rank: float | None
    verdicts: Counter[str]
    mean: float | None
    worst: tuple[float, Block] | None
    shared: int
    below: int
    test: TaskTest | None
    passes: float | None
    seconds: float | None


class OlderVersion(NamedTuple):
    """A version of a method that is not the newest of its row, and the tasks that have it."""

    version: str
    tasks: str


@dataclass(frozen=True)
class RankFigure:
    """Mean ranks of rows that share tasks.

    Attributes:
        picture: the ranks and their critical difference.
        places: the ranks in words, best first.
        difference: the critical difference.
        ranked: what the ranks go over, in words.
        left_out: rows that are not ranked here, with the reason.
    """

    picture: Markup
    places: str
    difference: float | None
    ranked: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """What the overview says of a protocol.

    Attributes:
        figures: mean ranks; the first one's stand in the table.
        reason: why there are none.
        standings: the ranked rows from the best on, then all others by their mean difference; of
            these the upper bound, which competes with none, last.
        older: row -> versions of it that some of its tasks have in place of the newest.
        tasks: number of tasks.
    """

    protocol: str
    metrics: list[str]
    figures: list[RankFigure]
    reason: str
    standings: list[Standing]
    older: dict[str, list[OlderVersion]]
    tasks: int

    @property
    def undecided(self) -> bool:
        """Whether some row has tasks without a verdict."""
        return any(found.verdicts[""] for found in self.standings)

    @property
    def tested(self) -> bool:
        """Whether some row has tasks enough for a test."""
        return any(found.test is not None for found in self.standings)


def overview(
    protocol: str, found: Sequence[Block], frame: pd.DataFrame, info: MethodInfo, against: str
) -> Overview:
    """Return the overview of one protocol.

    Args:
        protocol: its name.
        found: its blocks.
        frame: the leaderboard.
        info: baselines, the upper bound and the metrics that rank.
        against: the row that others are held against.
    """
    grid = task_grid(frame, info, protocol)
    ranks, *more = rankings(grid)
    places = dict(zip(ranks.rows, ranks.ranks, strict=True))
    tests = {test.row: test for test in task_tests(grid, against) if test.p_holm is not None}
    rows = rows_by_task(found)
    standings = [
        _standing(found, row, places.get(row[0].name), tests.get(row[0].name)) for row in rows
    ]
    return Overview(
        protocol=protocol,
        metrics=list(dict.fromkeys(block.metric for block in found)),
        figures=[_rank_figure(each) for each in (ranks, *more) if not each.note],
        reason=ranks.note,
        standings=sorted(standings, key=lambda standing: _place(standing, against)),
        older={first.name: _older_versions(lines, found) for first, lines in rows},
        tasks=_count_tasks(found),
    )


def rows_by_task(found: Sequence[Block]) -> list[RowLines]:
    """Return the rows that are no ablation: baselines first, the upper bound last.

    Of several versions of a row in a block the newest counts, and none under an older version of
    the protocol than the block has: that was another task.
    """
    by_name: dict[str, dict[str, Line]] = defaultdict(dict)
    for block in found:
        for line in sorted(block.current, key=lambda line: version_order(line.row.version)):
            by_name[line.name][block.key] = line
    rows = [
        (next(iter(lines.values())), [lines.get(block.key) for block in found])
        for lines in by_name.values()
    ]
    return sorted(rows, key=lambda row: (_KINDS[row[0].kind], row[0].name))


def _place(found: Standing, against: str) -> tuple[float, bool, float]:
    """Return what sorts rows; the one that all are held against differs from itself by nothing."""
    rank = math.inf if found.rank is None else found.rank
    mean = 0.0 if found.line.name == against else found.mean
    return rank, found.line.kind == "bound", math.inf if mean is None else -mean


def _older_versions(lines: Sequence[Line | None], found: Sequence[Block]) -> list[OlderVersion]:
    """Return the versions of a row's method, without the newest: one row may mix them."""
    tasks: dict[str, list[str]] = defaultdict(list)
    for line, block in zip(lines, found, strict=True):
        if line is not None:
            tasks[line.row.version.partition("/")[0]].append(block.short)
    older = sorted(tasks, key=version_order, reverse=True)[1:]
    return [OlderVersion(version, ", ".join(tasks[version])) for version in older]


def _count_tasks(blocks: Sequence[Block]) -> int:
    return len({task_of(block.key) for block in blocks})


def _rank_figure(ranks: Ranking) -> RankFigure:
    # every word in the picture is escaped where it is drawn
    picture = Markup(rank_svg(ranks))
    places = ", ".join(f"{r} {rank:.2f}" for r, rank in zip(ranks.rows, ranks.ranks, strict=True))
    said = describe_tasks(ranks.tasks)
    return RankFigure(picture, places, ranks.difference, said, _left_out(ranks))


def _left_out(ranks: Ranking) -> tuple[str, ...]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row, why in sorted(ranks.left_out.items()):
        by_reason[why].append(row)
    return tuple(f"{', '.join(rows)} ({why})" for why, rows in by_reason.items())


def _standing(
    found: Sequence[Block], row: RowLines, rank: float | None, test: TaskTest | None
) -> Standing:
    first, lines = row
    shown = [
        (line, block)
        for line, block in zip(lines, found, strict=True)
        if line is not None and block.metric in line.values
    ]
    away = [
        (better_sign(block.metric) * line.diff.mean, block, line.diff.verdict)
        for line, block in shown
        if line.diff.mean is not None
    ]
    differences = list(by_task({block.key: value for value, block, _ in away}).values())
    verdicts: dict[str, set[str]] = defaultdict(set)
    for _, block, verdict in away:
        verdicts[task_of(block.key)].add(verdict if verdict in ("win", "loss", "tie") else "")
    judged = Counter(_of_task(own) for own in verdicts.values())
    least = min(away, key=lambda one: one[0], default=None)
    return Standing(
        line=first,
        tasks=_count_tasks([block for _, block in shown]),
        rank=rank,
        verdicts=judged,
        mean=mean_of_known(differences),
        worst=least[:2] if least else None,
        shared=len(differences),
        below=sum(value < -EQUAL for value in differences),
        test=test,
        passes=mean_of_known([line.passes for line, _ in shown]),
        seconds=mean_of_known([line.seconds for line, _ in shown]),
    )


def _of_task(verdicts: set[str]) -> str:
    """Return the verdict of a task's source models: those that disagree make a tie."""
    reached = verdicts - {""}
    return "tie" if len(reached) > 1 else min(reached, default="")
