"""Tables as papers print them: a line a method, a column a task, their average (no torch).

One table holds the columns of one protocol, data set, setting and budget, by the metric that ranks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import NamedTuple

import pandas as pd

from dabench.board.statistics.holes import mean_of_all
from dabench.board.statistics.seeds import better_sign
from dabench.board.statistics.tasks import primary_lines
from dabench.registry.marks import ANSWERS_AFTER
from dabench.registry.method_info import MethodInfo, row_marks
from dabench.store.identity import BUDGET
from dabench.store.rows import least_changed_variants, newest_tasks

#: what all tasks of a table share
_SAME = ("protocol", "dataset", "metric", *BUDGET, "setting", "source_options")


@dataclass(frozen=True)
class Cell:
    """One method on one task.

    Attributes:
        mean: over seeds; None is a hole.
        sd: over seeds; None for one seed.
        n: seeds.
        best: whether no other ranked row has a better mean here.
        remark: what is missing, or why the cell is refused.
    """

    mean: float | None
    sd: float | None
    n: int
    best: bool
    remark: str


@dataclass(frozen=True)
class WideRow:
    """A line: name, a cell for each task (None = was never run as it is posed now), the average.

    ``marks`` stand beside the name, a reconstruction's among them.
    """

    name: str
    reconstruction: bool
    oracle: bool
    cells: tuple[Cell | None, ...]
    average: float | None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class WideTable:
    """A table. ``name`` is unique among its fellows and fit for a file name."""

    name: str
    protocol: str
    dataset: str
    metric: str
    budget: str
    tasks: tuple[str, ...]
    rows: tuple[WideRow, ...]


class _Line(NamedTuple):
    """What a table needs of a line of the leaderboard."""

    column: str
    method: str
    variant: str
    version: str
    mean: float
    sd: float
    n: int
    oracle: bool
    target_tuned: bool
    reconstruction: bool
    extras: str
    note: str
    remark: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.variant}".strip()

    @property
    def after(self) -> bool:
        """Whether it answered after its update: a setting of its own."""
        return ANSWERS_AFTER in self.extras.split()

    @property
    def ranked(self) -> bool:
        """Whether it may be the best."""
        aside = self.oracle or self.target_tuned or self.after
        return not (aside or math.isnan(self.mean))


def wide_tables(frame: pd.DataFrame, info: MethodInfo) -> list[WideTable]:
    """Return the tables, by protocol and data set.

    A row with changed options is shown where its method was not run with the defaults. There is an
    average where there are several tasks and no hole.
    """
    tables: list[WideTable] = []
    taken: set[str] = set()
    found = primary_lines(frame, info)
    found = found.assign(setting=_settings(found["protocol_options"].tolist(), info))
    for key, lines in found.groupby([*_SAME], sort=True):
        protocol, dataset, metric, size, backbone, weights, epochs, batch, *others = key
        source_epochs, freeze, setting, more = others
        stem = re.sub(r"[^\w.-]+", "_", f"{protocol}-{dataset}")
        numbered = (f"{stem}-{number}" for number in count(2))
        name = next(name for name in chain([stem], numbered) if name not in taken)
        taken.add(name)
        budget = f"{size} px, {backbone}, weights {weights}, epochs {epochs}, batch {batch}"
        budget += f", source epochs {source_epochs}" + (f", freeze {freeze}" if freeze else "")
        budget += "".join(f", {text}" for text in (setting, more) if text)
        titles = _titles(lines)
        cells = [_Line(*line) for line in lines[[*_Line._fields]].itertuples(index=False)]
        newest = newest_tasks((line.column, line.version) for line in cells)
        cells = [line for line in cells if (line.column, line.version) in newest]
        rows = tuple(_rows(cells, titles, better_sign(str(metric)), info))
        tasks = tuple(titles.values())
        tables.append(
            WideTable(name, str(protocol), str(dataset), str(metric), budget, tasks, rows)
        )
    return tables


def task_average(cells: Sequence[Cell | None]) -> float | None:
    """Return the mean over several tasks; None where one is a hole, or where there is one task."""
    return mean_of_all([cell.mean if cell else None for cell in cells]) if len(cells) > 1 else None


def _settings(texts: Sequence[str], info: MethodInfo) -> list[str]:
    """Return the options of protocols without those that pose another task."""

    def kept(text: str) -> str:
        tokens = text.split(" ")
        return " ".join(t for t in tokens if t.partition("=")[0] not in info.task_options)

    known = {text: kept(text) for text in set(texts)}
    return [known[text] for text in texts]


def _titles(lines: pd.DataFrame) -> dict[str, str]:
    """Return column -> task, with those options of the protocol that differ between the columns."""
    heads = lines.drop_duplicates("column")[["column", "task", "protocol_options"]].to_numpy()
    options = {column: str(text).split(" ") for column, _, text in heads}
    common = set.intersection(*(set(tokens) for tokens in options.values()))
    return {
        column: " ".join([task, *(t for t in options[column] if t not in common)])
        for column, task, _ in heads
    }


def _rows(
    lines: Sequence[_Line], titles: Mapping[str, str], sign: float, info: MethodInfo
) -> list[WideRow]:
    plain = {line.method for line in lines if not line.variant}
    by_name: dict[str, dict[str, _Line]] = {}
    for line in lines:  # of several versions the last stands
        if not line.variant or line.method not in plain:
            by_name.setdefault(line.name, {})[line.column] = line
    keys = {(line.method, line.variant): line.name for line in lines if line.name in by_name}
    main = {keys[key] for key in least_changed_variants(keys)}
    best = {column: _best([by_name[name] for name in main], column, sign) for column in titles}
    rows = []
    for name, own in by_name.items():
        leading = best if name in main else dict.fromkeys(titles, math.nan)
        cells = tuple(_cell(own.get(column), leading[column], sign) for column in titles)
        first = next(iter(own.values()))
        kind = first.reconstruction, first.oracle
        extras = {extra for line in own.values() for extra in line.extras.split()}
        tuned = any(line.target_tuned for line in own.values())
        marks = row_marks(extras, reconstruction=kind[0], bound=kind[1], target_tuned=tuned)
        rows.append(WideRow(name, *kind, cells, task_average(cells), tuple(marks)))
    return sorted(rows, key=lambda row: (_order(row, info), row.name))


def _best(rows: Iterable[Mapping[str, _Line]], column: str, sign: float) -> float:
    there = [own[column] for own in rows if column in own]
    return max([sign * line.mean for line in there if line.ranked], default=math.nan)


def _cell(line: _Line | None, best: float, sign: float) -> Cell | None:
    if line is None:
        return None
    if math.isnan(line.mean):
        return Cell(None, None, 0, False, line.note or line.remark)
    leads = line.ranked and math.isclose(sign * line.mean, best, rel_tol=0, abs_tol=1e-12)
    return Cell(line.mean, None if math.isnan(line.sd) else line.sd, line.n, leads, line.remark)


def _order(row: WideRow, info: MethodInfo) -> int:
    """Return what sorts a row as it is read: source, baselines, methods, the upper bound."""
    plain = row.name.partition(" ")[0].removesuffix("+bn")
    if row.oracle:
        return 3
    return 0 if plain == "source" else 1 + int(plain not in info.baselines)
