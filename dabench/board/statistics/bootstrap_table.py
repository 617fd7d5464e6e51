"""Bootstrap intervals for the lines of a leaderboard that rank (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dabench.board.statistics.bootstrap import bootstrap, mismatch
from dabench.board.statistics.tasks import primary_lines
from dabench.errors import StoreError, one_line
from dabench.registry.method_info import MethodInfo
from dabench.store.records import Record
from dabench.store.rows import Row, reference_of, row_of
from dabench.store.samples import SamplingUnits, sampling_units

#: what is added to the leaderboard
FIELDS = ("boot_low", "boot_high", "boot_label")
Runs = Mapping[str, tuple[Path, Record]]


def with_bootstrap(
    frame: pd.DataFrame, runs: Runs, info: MethodInfo, draws: int = 1000
) -> pd.DataFrame:
    """Return the leaderboard with the interval of the difference ``diff_mean`` over samples.

    Only for the metric that ranks, and where predictions are kept of the runs of both rows;
    ``boot_label`` says what the interval is, or why there is none.

    Args:
        frame: the leaderboard, made with the ``against`` that is meant.
        runs: run id -> file and record.
        info: baselines, the upper bound and the metrics that rank.
        draws: bootstrap samples.
    """
    found: dict[Any, tuple[float, float, str]] = {}
    for _, lines in primary_lines(frame, info).groupby("column", sort=False):
        fields = ("method", "variant", "against", "metric", "runs", "note")
        rows = list(zip(lines.index, *(lines[name].tolist() for name in fields), strict=True))
        cache: dict[str, SamplingUnits | None] = {}
        bases = {_row(r[5], runs): r[5] for r in rows if _name(r) == r[3] and not r[6]}
        for line in rows:
            index, _, _, against, metric, ids, note = line
            base = reference_of(_row(ids, runs), bases)
            if base is not None and not note and _name(line) != against:
                found[index] = _interval(ids, bases[base], metric, runs, cache, draws)
    values = [found.get(index, (np.nan, np.nan, "")) for index in frame.index]
    added = dict(zip(FIELDS, zip(*values, strict=True), strict=True)) if values else {}
    return frame.assign(**{name: list(added.get(name, [])) for name in FIELDS})


def _row(ids: str, runs: Runs) -> Row:
    return row_of(runs[ids.partition(" ")[0]][1])


def _name(line: tuple[Any, ...]) -> str:
    return f"{line[1]} {line[2]}".strip()


def _interval(
    ours: str,
    theirs: str,
    metric: str,
    runs: Runs,
    cache: dict[str, SamplingUnits | None],
    draws: int,
) -> tuple[float, float, str]:
    base = {runs[name][1]["spec"]["seed"]: name for name in theirs.split()}
    pairs = []
    for name in ours.split():
        other = base.get(runs[name][1]["spec"]["seed"])
        if other is None:
            continue
        try:
            left, right = (_units(n, metric, runs, cache) for n in (name, other))
        except StoreError as error:
            return np.nan, np.nan, one_line(error)
        if left is None or right is None:
            return np.nan, np.nan, "no predictions that this metric can be drawn from"
        if mismatch(left, right):
            return np.nan, np.nan, mismatch(left, right)
        pairs.append((left, right))
    if not pairs:
        return np.nan, np.nan, "no seed in common"
    result = bootstrap(pairs, draws)
    return result.low, result.high, result.label


def _units(
    name: str, metric: str, runs: Runs, cache: dict[str, SamplingUnits | None]
) -> SamplingUnits | None:
    """Read a run's predictions once a column."""
    if name not in cache:
        path, record = runs[name]
        cache[name] = sampling_units(path, record, metric)
    return cache[name]
