"""Records -> one table: a line for every method × column × metric (no torch).

A column is the protocol's side of a spec without the seed. For each seed all rows of a column must
agree in data, stream and source-model ids; a cell that does not is refused, and ``note`` says why.
A hole stays a hole, and ``remark`` says what is missing. docs/leaderboard.md explains every field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dabench.board.statistics.seeds import better_sign, compare, normalised_gain, summarise
from dabench.board.tables.agreement import IDS, ids_of
from dabench.board.tables.column import Column, RowResult
from dabench.config.spec import OPTIONAL_FIELDS
from dabench.registry.method_info import NO_INFO, MethodInfo
from dabench.store.garbage import collector_paused
from dabench.store.identity import COLUMN_FIELDS, column_key
from dabench.store.records import Record
from dabench.store.rows import options_text, row_of, varying_options

_BUDGET = ("image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze")
#: fields that another machine, or another day, may change though nothing else does
COSTS = (
    *("seconds", "adapt_seconds", "peak_memory_bytes", "images_forward", "images_backward"),
    *("parameters", "oracle_queries"),
)
#: fields that all lines of a row in a column share
_HEAD = (
    *("protocol", "dataset", "task", "split", "method", "variant", "version"),
    *("seeds", "reconstruction", "extras", *_BUDGET, "protocol_options", "source_options"),
    *("column", "selection", "oracle", "target_tuned"),
    *("data_id", "stream_id", "source_id"),
    *("runs", "dabench", *COSTS),
)
_MEANS = ("mean", "sd", "min", "max", "ci_low", "ci_high")
_DIFF = ("diff_mean", "diff_low", "diff_high", "diff_n")
_BEST = ("best_mean", "best_low", "best_high", "best_n")
#: fields of a line of its own, in the order in which ``_line`` gives them
_OWN = (
    *("metric", "note", "remark", "n", "gain", "best_baseline"),
    *(*_MEANS, *_DIFF, "verdict", *_BEST, "best_verdict"),
)
_NUMBERS = frozenset({*_MEANS, *_DIFF, *_BEST, "gain", *COSTS})
COLUMNS = ["protocol", "dataset", "task", "split", "metric", "method", "variant", "version"]
COLUMNS += [*_MEANS, "n", "seeds", "reconstruction", "extras"]
COLUMNS += ["against", *_DIFF, "verdict", "note", *_BUDGET]
COLUMNS += ["protocol_options", "source_options", "column"]
COLUMNS += ["remark", "best_baseline", *_BEST, "best_verdict", "gain", "selection", "oracle"]
COLUMNS += ["target_tuned", *(f"{name}_id" for name in IDS), "runs", "dabench", *COSTS]
_KEY = (*(name for name in COLUMN_FIELDS if name != "protocol_options"), *OPTIONAL_FIELDS)
_NO_CELL = (None,) * len(_MEANS)
_NO_PAIR = (None,) * 5
#: digits of an id that the table shows
_SHOWN = 8


@collector_paused()
def table(
    records: Iterable[Record], against: str = "source", info: MethodInfo = NO_INFO
) -> pd.DataFrame:
    """Return the leaderboard in long form, one line a (row, column, metric).

    Args:
        records: of finished runs.
        against: the row to pair differences with: its label (``shot``, ``source+bn``), with its
            changed options where it has some (``dine fine_tune=0.5``).
        info: baselines, the upper bound and the metrics that rank.
    """
    heads: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    owners: list[int] = []
    for found in sorted(_columns(list(records), info), key=_place):
        first = len(heads)
        heads += [_head(found, result) for result in found.results]
        for number, line in _lines(found, against):
            owners.append(first + number)
            lines.append(line)
    return _frame(heads, owners, lines).assign(against=against)[COLUMNS]


def _columns(records: Sequence[Record], info: MethodInfo) -> Iterable[Column]:
    varying = varying_options(records)
    columns: dict[str, Column] = {}
    keys: dict[tuple[Any, ...], str] = {}  # a digest costs more than this look-up
    for record in records:
        spec = record["spec"]
        parts = (*map(spec.get, _KEY), str(spec["protocol_options"]))
        key = keys.get(parts) or keys.setdefault(parts, column_key(spec))
        if key not in columns:
            columns[key] = Column(key, info=info)
        columns[key].runs[row_of(record, varying)].append(record)
    return columns.values()


def _frame(
    heads: list[tuple[Any, ...]], owners: list[int], lines: list[tuple[Any, ...]]
) -> pd.DataFrame:
    """Return the lines as a frame; numbers are floats, where a hole is NaN."""
    place = np.array(owners, dtype=np.intp)
    data: dict[str, Any] = {}
    for name, values in zip(_HEAD, _fields(heads, len(_HEAD)), strict=True):
        kind = np.float64 if name in _NUMBERS else object
        data[name] = np.array([*values, None], dtype=kind)[place]
        if name in (*_BUDGET, "reconstruction", "oracle", "target_tuned"):
            data[name] = pd.Series(data[name]).infer_objects()
    for name, values in zip(_OWN, _fields(lines, len(_OWN)), strict=True):
        data[name] = np.array(values, dtype=np.float64) if name in _NUMBERS else list(values)
    return pd.DataFrame(data)


def _fields(lines: list[tuple[Any, ...]], count: int) -> Iterable[tuple[Any, ...]]:
    return zip(*lines, strict=True) if lines else [()] * count


def _place(found: Column) -> tuple[str, ...]:
    spec = next(iter(found.runs.values()))[0]["spec"]
    split = str(spec["protocol_options"].get("split", ""))
    return (spec["protocol"], spec["dataset"], _task(spec), split, found.key)


def _task(spec: Mapping[str, Any]) -> str:
    return f"{spec['source']}→{spec['target']}"


def _lines(found: Column, against: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number of a row with the fields ``_OWN``, by metric and row."""
    base, bound = found.result_of(against), found.result_of(found.info.upper_bound)
    source = found.result_of("source")
    versus = [not result.row.named(against) for result in found.results]
    for metric in sorted(set().union(*(s.metrics for s in found.results))):
        best, sign = found.best_baseline(metric), better_sign(metric)
        low, high = (s.by_seed(metric) if s else {} for s in (source, bound))
        for number, result in enumerate(found.results):
            if metric not in result.metrics:
                continue
            ours = result.by_seed_if_whole(metric)
            pair = _pair(ours, base, metric, sign) if versus[number] else _NO_PAIR
            other = pair if best is base and versus[number] else _pair(ours, best, metric, sign)
            yield (
                number,
                (
                    metric,
                    result.note,
                    result.remark(metric),
                    len(ours),
                    normalised_gain(ours, low, high, sign),
                    best.row.name if best else None,
                    *_cell(ours),
                    *pair,
                    *(_NO_PAIR if result is best else other),
                ),
            )


def _pair(
    ours: Mapping[int, float], base: RowResult | None, metric: str, sign: float
) -> tuple[Any, ...]:
    """Return the paired difference; holes of the other row are left out."""
    if base is None or not ours:
        return _NO_PAIR
    found = compare(ours, base.by_seed(metric), higher_is_better=sign > 0)
    if found is None:
        return _NO_PAIR
    return found.mean, found.low, found.high, found.n, found.verdict


def _cell(by_seed: Mapping[int, float]) -> tuple[Any, ...]:
    """Return mean and spread; nothing where a seed has a hole."""
    if not by_seed:
        return _NO_CELL
    found = summarise(list(by_seed.values()))
    return found.mean, found.sd, found.least, found.most, found.low, found.high


def _head(found: Column, result: RowResult) -> tuple[Any, ...]:
    """Return the fields ``_HEAD`` of a row."""
    row, runs = result.row, result.runs
    spec = runs[0]["spec"]
    options = dict(spec["protocol_options"])
    ids = [ids_of(run) for run in runs]
    costs = _costs(runs)
    return (
        spec["protocol"],
        spec["dataset"],
        _task(spec),
        str(options.get("split", "")),
        row.label,
        row.variant,
        row.version,
        _distinct(str(run["spec"]["seed"]) for run in runs),
        any(run.get("reconstruction", False) for run in runs),
        " ".join(sorted({name for run in runs for name in run.get("extras", [])})),
        *(spec[name] for name in _BUDGET),
        options_text(options),
        options_text(_source_options(runs[0])),
        found.key,
        "last",
        found.info.is_bound(row.method, runs),
        result.target_tuned,
        *(_distinct(part[:_SHOWN] for part in parts) for parts in zip(*ids, strict=True)),
        " ".join(str(run["run_id"]) for run in runs),
        _distinct(str(run.get("versions", {}).get("dabench", "?")) for run in runs),
        *(costs[name] for name in COSTS),
    )


def _source_options(run: Record) -> dict[str, Any]:
    """Return what is said of a source model, and how many of its outputs are kept if not all."""
    spec, about = run["spec"], run.get("source_model") or {}
    given = {n: spec[n] for n in OPTIONAL_FIELDS if spec.get(n) is not None}
    return given | ({"outputs": about["outputs"]} if about.get("outputs") else {})


def _distinct(values: Iterable[str]) -> str:
    """Return different values in the runs' order."""
    return " ".join(dict.fromkeys(values))


def _costs(runs: Sequence[Record]) -> dict[str, float | None]:
    """Return the mean cost of a run (peak memory: the largest); a hole where a run lacks it."""
    found: dict[str, float | None] = {}
    for name in COSTS:
        values = [(run.get("cost") or {}).get(name) for run in runs]
        known = [float(value) for value in values if value is not None]
        if len(known) < len(values):
            found[name] = None
        elif name == "peak_memory_bytes":
            found[name] = max(known)
        else:
            found[name] = math.fsum(known) / len(known)
    return found
