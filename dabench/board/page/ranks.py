"""Mean ranks over tasks, or why there are none."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from scipy import stats

from dabench.board.page.cells import Block, Line

#: fewest tasks for which ranks are stated
MIN_TASKS = 6
#: the same method under another name: it is counted once
ALIASES = frozenset({"aerial", "max-squares"})


@dataclass(frozen=True)
class Ranks:
    """Mean rank by row (1 = best); ``reason`` says why there is none."""

    tasks: list[str]
    mean: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def ranks(found: Sequence[Block]) -> Ranks:
    """Rank the rows that every task of a protocol has; seeds are averaged first.

    A task is a data set with its pair of domains and, in open sets, its class split; where it has
    several columns (budgets, options) the one with most rows stands for it.
    """
    chosen = _tasks(found)
    tasks = [block.title for block in chosen]
    if len(chosen) < MIN_TASKS:
        return Ranks(tasks, reason=f"too few tasks: {len(chosen)} of at least {MIN_TASKS}")
    names = [{line.name for line in _ranked(block)} for block in chosen]
    common = set.intersection(*names)
    if len(common) < 2:
        return Ranks(tasks, reason=f"no two rows are there in all {len(chosen)} tasks")
    places: dict[str, list[float]] = defaultdict(list)
    for block in chosen:
        lines = [line for line in _ranked(block) if line.name in common]
        means = [-line.values[block.metric].mean for line in lines]
        for line, place in zip(lines, stats.rankdata(means), strict=True):
            places[line.label].append(float(place))
    return Ranks(tasks, {name: math.fsum(got) / len(got) for name, got in places.items()})


def _tasks(found: Sequence[Block]) -> list[Block]:
    best: dict[tuple[str, ...], Block] = {}
    for block in found:
        spec = block.spec
        split = str(spec["protocol_options"].get("split", ""))
        task = (str(spec["dataset"]), str(spec["source"]), str(spec["target"]), split)
        if task not in best or len(block.lines) > len(best[task].lines):
            best[task] = block
    return list(best.values())


def _ranked(block: Block) -> list[Line]:
    """Return the lines that may rank: no ablation, no upper bound, no alias, no hole."""
    return [
        line
        for line in block.main
        if line.kind != "bound" and line.method not in ALIASES and block.metric in line.values
    ]
