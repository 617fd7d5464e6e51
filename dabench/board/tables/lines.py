"""The lines of a table's column: a cell each, with what it is held against (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dabench.board.statistics.cells import Comparisons, Floats, Ints, comparisons, gains, summaries
from dabench.board.tables.column import Column

MEANS = ("mean", "sd", "min", "max", "ci_low", "ci_high")
#: the paired difference to the row ``against``, and to the best baseline
DIFFERENCE = ("diff_mean", "diff_low", "diff_high", "diff_n")
BEST = ("best_mean", "best_low", "best_high", "best_n")
#: fields of a line that the other lines of its row do not share
LINE = (
    *("metric", "note", "remark", "n", "gain", "best_baseline"),
    *(*MEANS, *DIFFERENCE, "verdict", *BEST, "best_verdict"),
)


@dataclass(frozen=True)
class Lines:
    """The lines of a column, by metric and row.

    Attributes:
        rows: the number of each line's row.
        fields: by the names ``LINE``.
    """

    rows: Ints
    fields: dict[str, npt.NDArray[Any]]


def lines_of(found: Column, against: str, first: int = 0) -> Lines:
    """Return a column's lines.

    Args:
        found: the column.
        against: the row to pair differences with, as in ``leaderboard.table``.
        first: the number of the column's first row.
    """
    scores, results = found.scores, found.results
    values, signs = scores.values, scores.signs
    count = (~np.isnan(values)).sum(0)
    runs = scores.runs
    ours = np.where(count == runs, values, np.nan)  # a cell lacks no run of its row
    best = found.best_baselines(ours)
    cells = summaries(ours)
    base = _rows(ours, found.references(against))
    others = np.stack([base, _best(ours, best)], 1)
    pairs = comparisons(ours[:, None], others, signs)
    itself = np.array([result.row.name == against for result in results])[:, None]
    number = np.arange(len(results))[:, None]
    _drop(pairs, np.stack([np.broadcast_to(itself, count.shape), number == best]))

    metric, row = np.nonzero(scores.there.T)
    names = np.array([*(result.row.name for result in results), None], dtype=object)
    means = (cells.mean, cells.sd, cells.least, cells.most, cells.low, cells.high)
    fields: dict[str, npt.NDArray[Any]] = {
        "metric": np.array(scores.metrics, dtype=object)[metric],
        "note": np.array([result.note for result in results], dtype=object)[row],
        "remark": _remarks(found, runs - count, found.pairings(against))[row, metric],
        "n": cells.n[row, metric],
        "gain": _gains(found, ours)[row, metric],
        "best_baseline": names[best][row, metric],
    }
    fields |= {name: part[row, metric] for name, part in zip(MEANS, means, strict=True)}
    for kind, group in enumerate(((*DIFFERENCE, "verdict"), (*BEST, "best_verdict"))):
        fields |= {n: part[kind, row, metric] for n, part in zip(group, pairs, strict=True)}
    return Lines(first + row, fields)


def _gains(found: Column, ours: Floats) -> Floats:
    """Return (R, M) of what a row gains of the way from the source model to the upper bound."""
    source, bound = (
        _rows(ours, found.references(name)) for name in ("source", found.info.upper_bound)
    )
    return gains(ours, source, bound, found.scores.signs)


def _rows(values: Floats, numbers: Ints) -> Floats:
    """Return (S, R, M) of the rows that each is held against; holes where there is none."""
    return np.where(numbers[:, None] < 0, np.nan, values[:, numbers])


def _best(values: Floats, best: Ints) -> Floats:
    """Return (S, R, M) of the best baselines; holes where there is none."""
    return np.where(best < 0, np.nan, values[:, best, np.arange(values.shape[2])])


def _drop(pairs: Comparisons, where: npt.NDArray[np.bool_]) -> None:
    """A row is not held against itself."""
    for part in pairs:
        part[where] = None if part.dtype == object else np.nan


def _remarks(
    found: Column, holes: npt.NDArray[np.int_], pairings: list[str]
) -> npt.NDArray[np.object_]:
    whole = [result.remark(0, why) for result, why in zip(found.results, pairings, strict=True)]
    remarks = np.repeat(np.array(whole, dtype=object)[:, None], holes.shape[1], axis=1)
    for row, metric in np.argwhere(holes > 0):
        remarks[row, metric] = found.results[row].remark(int(holes[row, metric]), pairings[row])
    return remarks
