"""The leaderboard as a page shows it: a block a column, with a title that parts it from others."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dabench.board.page import texts
from dabench.board.page.lines import FIELDS, Line, make_line
from dabench.board.page.page_records import FEW_METRICS
from dabench.board.page.titles import naming, options, task_names
from dabench.board.page.values import Cell
from dabench.board.statistics.seeds import better_sign
from dabench.registry.method_info import MethodInfo
from dabench.store.identity import column_of, shown_spec
from dabench.store.records import Record, score_name
from dabench.store.rows import Row, least_changed_variants, newest_tasks, row_of, varying_options

#: metrics that have a column beside the one that ranks; where there are many lines
FURTHER, FURTHER_COMPACT = 9, FEW_METRICS
_ROW = ("column", "method", "variant", "version", "metric")
Groups = Mapping[str, Mapping[Row, list[Record]]]


@dataclass
class Block:
    """A column of the leaderboard: one task under one budget.

    Attributes:
        key: of the column.
        spec: of its first run; what the column fixes holds for all.
        metric: the one that ranks.
        metrics: the further ones.
        lines: its rows, the best first.
        title: data set, task, and the options that part it from its neighbours.
        short: what parts it from the other blocks of its protocol, where the title has no room.
        versus: the best baseline, where it is not the row that all are held against.
        brief: there is no room in the page for its rows.
    """

    key: str
    spec: Mapping[str, Any]
    metric: str
    metrics: list[str]
    lines: list[Line]
    title: str = ""
    short: str = ""
    versus: str = ""
    brief: bool = False

    @property
    def anchor(self) -> str:
        """A name for links within the page."""
        return "c-" + self.key.rpartition("/")[2]

    @property
    def main(self) -> list[Line]:
        """The lines without ablations."""
        return [line for line in self.lines if line.main]

    @property
    def current(self) -> list[Line]:
        """Those of them on the task as it is posed now: under the protocol's newest version."""
        newest = newest_tasks((self.key, line.row.version) for line in self.lines)
        return [line for line in self.main if (self.key, line.row.version) in newest]

    @property
    def scored(self) -> list[Line]:
        """The main lines that have a score; the upper bound is not among them."""
        return [line for line in self.main if self._competes(line)]

    @property
    def ranked(self) -> list[Line]:
        """Those that compete: in the setting of all, on the task as it is posed now."""
        return [line for line in self.current if self._competes(line) and not line.aside]

    def _competes(self, line: Line) -> bool:
        return line.kind != "bound" and self.metric in line.values

    @property
    def best(self) -> Line | None:
        """The line that ranks first."""
        return max(self.ranked, key=self.score, default=None)

    def score(self, line: Line) -> float:
        """A line's mean by the metric that ranks, turned so that more is better; -inf = a hole."""
        if self.metric not in line.values:
            return -math.inf
        return better_sign(self.metric) * line.values[self.metric].mean

    @property
    def bounded(self) -> bool:
        """Whether some line has a normalised gain, for which there must be an upper bound."""
        return any(line.gain is not None for line in self.lines)

    @property
    def budget(self) -> str:
        """What every row may spend, in words."""
        spec = self.spec
        parts = [f"{spec['image_size']} px", str(spec["backbone"]), f"weights {spec['weights']}"]
        parts += [f"epochs {spec['epochs']}", f"batch {spec['batch_size']}"]
        parts += [f"source epochs {spec['source_epochs']}"]
        parts += [f"{spec['freeze']} stages frozen"] if spec["freeze"] else []
        return " · ".join(parts)

    @property
    def options(self) -> str:
        """All options of the protocol."""
        return " · ".join(f"{n} {v}" for n, v in sorted(options(self.spec).items()))


def group_runs(records: Iterable[Record]) -> Groups:
    """Return the runs of every cell: key of a column -> row -> records."""
    kept = list(records)
    varying = varying_options(kept)
    cells: dict[str, dict[Row, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in kept:
        cells[column_of(record)][row_of(record, varying)].append(record)
    return cells


def blocks(
    frame: pd.DataFrame, groups: Groups, info: MethodInfo, against: str, *, compact: bool
) -> list[Block]:
    """Return a block a column, sorted by task and then by how much was measured.

    Args:
        frame: that of ``leaderboard.table``.
        groups: the same records.
        info: baselines, the upper bound and the metrics that rank.
        against: the row that differences are paired with.
        compact: keep few metrics.
    """
    most = FURTHER_COMPACT if compact else FURTHER
    found = [_empty(key, groups[key], info, most) for key in sorted(groups)]
    cells = _cells(frame, {b.key: {b.metric, *b.metrics} for b in found})
    for block in found:
        for row, runs in groups[block.key].items():
            mine = cells.get((block.key, row.label, row.variant, row.version), {})
            block.lines.append(make_line(row, runs, mine, block.metric, info))
        _finish(block)
        names = {line.best_name for line in block.lines if line.best.mean is not None}
        block.versus = names.pop() if len(names) == 1 and not compact else ""
        block.versus = "" if block.versus == against else block.versus
    set_titles(found)
    return sorted(
        found, key=lambda b: (task_names(b.spec), -len(b.main), -len(b.lines), b.title, b.key)
    )


def set_titles(found: Sequence[Block]) -> None:
    """Give every block its names: what it shares with all blocks of its protocol is left out."""
    by_protocol: dict[str, list[Block]] = defaultdict(list)
    for block in found:
        by_protocol[block.spec["protocol"]].append(block)
    for group in by_protocol.values():
        for block, names in zip(group, naming([block.spec for block in group]), strict=True):
            block.title, block.short = names.title, names.short


def _empty(key: str, runs: Mapping[Row, list[Record]], info: MethodInfo, most: int) -> Block:
    """Return a block that knows its metrics but has no lines yet."""
    spec = shown_spec(next(iter(runs.values()))[0])
    metric = info.primary(spec["protocol"], spec["dataset"])
    known = {score_name(row) for group in runs.values() for run in group for row in run["scores"]}
    return Block(key, spec, metric, texts.headline_metrics(known, metric, most), [])


def _cells(
    frame: pd.DataFrame, wanted: Mapping[str, set[str]]
) -> dict[tuple[str, str, str, str], dict[str, Cell]]:
    """Return the frame's lines by row and metric, of the metrics that are shown."""
    metrics = {name for names in wanted.values() for name in names}
    names = [*_ROW, *FIELDS]
    kept = frame.loc[frame["metric"].isin(metrics), names]
    found: dict[tuple[str, str, str, str], dict[str, Cell]] = defaultdict(dict)
    for values in zip(*(kept[name].tolist() for name in names), strict=True):
        key, method, variant, version, metric = values[: len(_ROW)]
        if metric in wanted.get(key, ()):
            cell = dict(zip(FIELDS, values[len(_ROW) :], strict=True))
            found[key, method, variant, version][metric] = cell
    return found


def _finish(block: Block) -> None:
    """Tell ablations from methods as they stand, and put the best first."""
    main = least_changed_variants((line.row.label, line.row.variant) for line in block.lines)
    names = Counter(line.name for line in block.lines)
    for line in block.lines:
        line.main = (line.row.label, line.row.variant) in main
        line.told = f"v{line.row.version}" if names[line.name] > 1 else ""
    block.lines.sort(key=lambda line: (-block.score(line), line.name))
