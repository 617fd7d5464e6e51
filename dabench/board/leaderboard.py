"""Records -> one table: a line for every method × column × metric (no torch).

A column is the protocol's side of a spec without the seed. For each seed all rows of a column must
agree in data, stream and source-model ids; a cell that does not is refused, and ``note`` says why.
A hole stays a hole, and ``remark`` says what is missing. docs/leaderboard.md explains every field.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dabench.board.cells import IDS, Column, ids_of
from dabench.board.files import write_atomically
from dabench.board.records import OPTIONAL, Record, column
from dabench.board.roster import PLAIN, Roster
from dabench.board.rows import Row, options_text, row_of, varying_options
from dabench.board.stats import Comparison, better_sign, compare, gain, summarise

_WHAT = ("protocol", "dataset", "task", "split", "metric", "method", "variant", "version")
_MEANS = ("mean", "sd", "min", "max", "ci_low", "ci_high", "n")
_AGAINST = ("mean", "low", "high", "n", "verdict")
_DIFF = tuple(f"diff_{name}" for name in _AGAINST[:-1])
_BEST = tuple(f"best_{name}" for name in _AGAINST)
_BUDGET = ("image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze")
#: fields that another machine, or another day, may change though nothing else does
COSTS = (
    *("seconds", "adapt_seconds", "peak_memory_bytes", "images_forward", "images_backward"),
    *("parameters", "oracle_queries"),
)
COLUMNS = [*_WHAT, *_MEANS, "seeds", "reconstruction", "extras"]
COLUMNS += ["against", *_DIFF, "verdict", "note", *_BUDGET]
COLUMNS += ["protocol_options", "source_options", "column"]
COLUMNS += ["remark", "best_baseline", *_BEST, "gain", "selection", "oracle", "same_as"]
COLUMNS += [*(f"{name}_id" for name in IDS), "runs", "dabench", *COSTS]
#: digits of an id that the table shows
_SHOWN = 8


def table(
    records: Iterable[Record], against: str = "source", roster: Roster = PLAIN
) -> pd.DataFrame:
    """Return the leaderboard in long form, one line a (row, column, metric).

    Args:
        records: of finished runs.
        against: the row to pair differences with: its label (``shot``, ``source+bn``), with its
            changed options where it has some (``dine fine_tune=0.5``).
        roster: what is known of the names: baselines, aliases, the upper bound.
    """
    kept = list(records)
    varying = varying_options(kept)
    columns: dict[str, Column] = {}
    for record in kept:
        key = column(record["spec"])
        if key not in columns:
            columns[key] = Column(key, roster=roster)
        columns[key].runs[row_of(record, varying)].append(record)
    lines: list[tuple[Any, ...]] = []
    for found in sorted(columns.values(), key=_place):
        lines += _column_lines(found, against)
    return _frame(lines)


def _frame(lines: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Return the lines as a frame; numbers are floats, where a hole is NaN."""
    fields = zip(*lines, strict=True) if lines else [()] * len(COLUMNS)
    data: dict[str, Any] = dict(zip(COLUMNS, fields, strict=True))
    for name in (*_MEANS[:-1], *_DIFF, *_BEST[:-1], "gain", *COSTS):
        data[name] = np.array(data[name], dtype=np.float64)
    return pd.DataFrame(data, columns=COLUMNS)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table atomically; holes are empty fields, numbers at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(zip(*(_plain(frame[name]) for name in frame.columns), strict=True))
    content = text.getvalue().encode("utf-8", "backslashreplace")
    write_atomically(path, lambda file: (file.write(content), None)[1])


def baseline(records: Iterable[Record], spec: Mapping[str, Any]) -> Record | None:
    """Return the ``source`` run of the same column and seed at init ``source``, if there is one."""
    found = [
        record
        for record in records
        if (record["spec"]["method"], record["spec"]["init"]) == ("source", "source")
        and record["spec"]["seed"] == spec["seed"]
        and not record.get("variant")
        and column(record["spec"]) == column(spec)
    ]
    same = [r for r in found if r["spec"]["device"] == spec["device"]]
    found = same or found
    return found[0] if len(found) == 1 else None


def _plain(values: pd.Series[Any]) -> list[Any]:
    """Return a column's values with holes as None, and counts without a point."""
    whole = str(values.name).endswith("_n")
    found: list[Any] = []
    for value in values.tolist():
        if isinstance(value, float) and math.isnan(value):
            found.append(None)
        else:
            found.append(int(value) if whole and value is not None else value)
    return found


def _place(found: Column) -> tuple[str, ...]:
    spec = next(iter(found.runs.values()))[0]["spec"]
    split = str(spec["protocol_options"].get("split", ""))
    return (spec["protocol"], spec["dataset"], _task(spec), split, found.key)


def _task(spec: Mapping[str, Any]) -> str:
    return f"{spec['source']}→{spec['target']}"


def _column_lines(found: Column, against: str) -> list[tuple[Any, ...]]:
    rows = sorted(found.runs, key=lambda row: (row.label, row.variant, row.version))
    heads = {row: _head(found, row) for row in rows}
    metrics = {row: {name for scores in found.scores[row] for name in scores} for row in rows}
    base, bound = found.only(against), found.only(found.roster.upper_bound)
    source = found.only("source")
    lines = []
    for metric in sorted(set().union(*metrics.values())):
        best = found.best_baseline(metric)
        for row in rows:
            if metric not in metrics[row]:
                continue
            ours = found.whole(row, metric)
            fields = heads[row] | _cell(ours) | {"metric": metric, "against": against}
            fields |= {"note": found.notes[row], "remark": found.remark(row, metric)}
            if not row.named(against):
                versus = _versus(ours, _values(found, base, metric), metric)
                fields |= dict(zip((*_DIFF, "verdict"), versus, strict=True))
            if best is not None:
                fields["best_baseline"] = best.name
                if row != best:
                    versus = _versus(ours, _values(found, best, metric), metric)
                    fields |= dict(zip(_BEST, versus, strict=True))
            low, high = (_values(found, end, metric) for end in (source, bound))
            fields["gain"] = gain(ours, low, high, better_sign(metric))
            lines.append(tuple(map(fields.get, COLUMNS)))
    return lines


def _values(found: Column, row: Row | None, metric: str) -> dict[int, float]:
    """Return seed -> value of a row that others are held against; holes are left out."""
    return {} if row is None else found.values[row].get(metric, {})


def _versus(ours: Mapping[int, float], base: Mapping[int, float], metric: str) -> Sequence[Any]:
    found = compare(ours, base, higher_is_better=better_sign(metric) > 0)
    return [None] * len(_AGAINST) if found is None else _fields(found)


def _fields(found: Comparison) -> Sequence[Any]:
    return found.mean, found.low, found.high, found.n, found.verdict


def _cell(by_seed: Mapping[int, float]) -> dict[str, Any]:
    """Return mean and spread; nothing where a seed has a hole."""
    if not by_seed:
        return {"n": 0}
    found = summarise([by_seed[seed] for seed in sorted(by_seed)])
    shown = (found.mean, found.sd, found.least, found.most, found.low, found.high, found.n)
    return dict(zip(_MEANS, shown, strict=True))


def _head(found: Column, row: Row) -> dict[str, Any]:
    """Return the fields that all lines of a row share."""
    runs = sorted(found.runs[row], key=lambda run: int(run["spec"]["seed"]))
    spec = runs[0]["spec"]
    options = dict(spec["protocol_options"])
    head = {
        "protocol": spec["protocol"],
        "dataset": spec["dataset"],
        "task": _task(spec),
        "split": str(options.get("split", "")),
        "method": row.label,
        "variant": row.variant,
        "version": row.version,
        "seeds": " ".join(str(seed) for seed in sorted({r["spec"]["seed"] for r in runs})),
        "reconstruction": any(run.get("reconstruction", False) for run in runs),
        "extras": " ".join(sorted({name for run in runs for name in run.get("extras", [])})),
        "protocol_options": options_text(options),
        "source_options": options_text({n: spec[n] for n in OPTIONAL if spec.get(n) is not None}),
        "column": found.key,
        "selection": "last",
        "oracle": row.method == found.roster.upper_bound,
        "same_as": found.alias_of(row),
        "runs": " ".join(str(run["run_id"]) for run in runs),
        "dabench": _distinct(str(run.get("versions", {}).get("dabench", "?")) for run in runs),
    }
    ids = [ids_of(run) for run in runs]
    head |= {f"{name}_id": _distinct(i[name][:_SHOWN] for i in ids) for name in IDS}
    return head | {name: spec[name] for name in _BUDGET} | _costs(runs)


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
