"""Mean ranks over tasks and their critical difference (no torch)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scipy import stats

from dabench.board.statistics.tasks import MIN_TASKS, TaskGrid, by_task, too_few_tasks
from dabench.store.identity import task_of

#: how the reason begins why a row is not ranked though it has tasks enough
_OTHER_TASKS = "shares too few"


@dataclass(frozen=True)
class Ranking:
    """Rows from the best mean rank to the worst.

    Attributes:
        protocol: whose columns hold the tasks.
        tasks: keys of the tasks of the columns in which every row has a score.
        rows: names, best first; empty where there is no ranking.
        ranks: their mean ranks, 1 = best everywhere.
        difference: mean ranks that differ by less are not told apart (Nemenyi, 5 %).
        groups: first and last position of rows that are not told apart, two rows at least.
        left_out: row -> why it is not ranked.
        marks: row -> what stands beside its name.
        note: why there is no ranking ("" = there is one).
    """

    protocol: str
    tasks: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    ranks: tuple[float, ...] = ()
    difference: float | None = None
    groups: tuple[tuple[int, int], ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def marked(self, row: str) -> str:
        """Return a row's name with its marks."""
        return row + self.marks.get(row, "")


def ranking(grid: TaskGrid) -> Ranking:
    """Rank the rows that have at least ``MIN_TASKS`` tasks, on the tasks that all of them have.

    Where so many are not common to all, rows give way one at a time, whatever their scores: the one
    with the fewest tasks, of several the one without which most tasks are common.

    Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006.
    """
    left_out = dict(grid.left_out)
    counts = {name: len(by_task(own)) for name, own in grid.values.items()}
    kept = {name: own for name, own in grid.values.items() if counts[name] >= MIN_TASKS}
    most = max(counts.values(), default=0)
    left_out |= {name: too_few_tasks(n) for name, n in counts.items() if name not in kept}
    if most < MIN_TASKS:
        return Ranking(grid.protocol, left_out=left_out, note=too_few_tasks(most))
    if len(kept) < 2:
        return Ranking(grid.protocol, left_out=left_out, note="one row alone has enough tasks")
    while len(tasks := _tasks(columns := _common(kept))) < MIN_TASKS and len(kept) > 2:
        name = min(kept, key=lambda row: (counts[row], -len(_tasks(_common(kept, row))), row))
        left_out[name] = f"{_OTHER_TASKS} of its {counts[name]} tasks with the others"
        del kept[name]
    if len(tasks) < MIN_TASKS:
        return Ranking(
            grid.protocol, left_out=left_out, note=f"{too_few_tasks(len(tasks))} with all rows"
        )
    rows = [by_task({column: own[column] for column in columns}) for own in kept.values()]
    scores = np.round([[own[task] for task in tasks] for own in rows], 12)
    means = stats.rankdata(-scores, axis=0).mean(axis=1)
    order = sorted(range(len(kept)), key=lambda i: (means[i], list(kept)[i]))
    ranks = tuple(float(means[i]) for i in order)
    difference = critical_difference(len(ranks), len(tasks))
    return Ranking(
        grid.protocol,
        tuple(tasks),
        tuple(list(kept)[i] for i in order),
        ranks,
        difference,
        indistinguishable_groups(ranks, difference),
        left_out,
        grid.marks,
    )


def rankings(grid: TaskGrid) -> list[Ranking]:
    """Return the ranking of a protocol's rows, and one of those that it leaves out for other tasks.

    The second has the tasks that all of these share, and whoever else has them; there is none where
    they are fewer than ``MIN_TASKS``.
    """
    first = ranking(grid)
    apart = [row for row, why in first.left_out.items() if why.startswith(_OTHER_TASKS)]
    if first.note or len(apart) < 2:
        return [first]
    shared = _common({row: grid.values[row] for row in apart})
    rows = {
        row: {column: own[column] for column in shared}
        for row, own in grid.values.items()
        if shared <= own.keys()
    }
    second = ranking(replace(grid, values=rows, left_out={}))
    if second.note:
        return [first]
    told = {row: f"{first.left_out[row]}: ranked apart" for row in apart}
    return [replace(first, left_out=first.left_out | told), second]


def _common(rows: Mapping[str, Mapping[str, float]], without: str | None = None) -> set[str]:
    """Return the columns that all rows have, or all but one."""
    return set.intersection(*(set(own) for name, own in rows.items() if name != without))


def _tasks(columns: Iterable[str]) -> list[str]:
    return sorted({task_of(column) for column in columns})


def describe_tasks(tasks: Iterable[str]) -> str:
    """Return how many tasks there are, and which of them share images: those of one data set.

    Args:
        tasks: their keys, ``protocol/dataset/source-target/digest``.
    """
    found = {*tasks}
    data = Counter(key.split("/")[1] for key in found)
    shared = [f"{n} of {name}" for name, n in sorted(data.items()) if n > 1]
    told = f"; not independent: {', '.join(shared)} share images" if shared else ""
    return f"{len(found)} tasks{told}"


def critical_difference(rows: int, tasks: int, level: float = 0.05) -> float:
    """Return Nemenyi's critical difference q √(k (k + 1) / 6 N) of mean ranks.

    Args:
        rows: k, 2 or more.
        tasks: N.
        level: chance of at least one wrong difference.
    """
    return _studentized(level, rows) * math.sqrt(rows * (rows + 1) / (6 * tasks))


@cache
def _studentized(level: float, rows: int) -> float:
    """Return the studentized range over √2: 1.960 for 2 rows at 5 %, 2.343 for 3."""
    return float(stats.studentized_range.ppf(1 - level, rows, math.inf)) / math.sqrt(2)


def indistinguishable_groups(
    ranks: Sequence[float], difference: float
) -> tuple[tuple[int, int], ...]:
    """Return the longest stretches of sorted mean ranks that span no more than ``difference``."""
    found: list[tuple[int, int]] = []
    for first, low in enumerate(ranks):
        last = max(i for i, rank in enumerate(ranks) if rank - low <= difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
