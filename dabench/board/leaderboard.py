"""Records -> one table: a line for every method × column × metric (no torch).

A column is the protocol's side of a spec without the seed. For each seed all rows of a column must
agree in data, stream and source-model ids; a cell that does not is refused, and ``note`` says why.
A hole stays a hole.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dabench.board.files import write_atomically
from dabench.board.records import OPTIONAL, Record, column, score_map
from dabench.board.stats import LOWER_IS_BETTER, compare, summarise

COLUMNS = ["protocol", "dataset", "task", "split", "metric", "method", "variant", "version"]
COLUMNS += [
    "mean",
    "sd",
    "min",
    "max",
    "ci_low",
    "ci_high",
    "n",
    "seeds",
    "reconstruction",
    "extras",
]
COLUMNS += ["against", "diff_mean", "diff_low", "diff_high", "diff_n", "verdict", "note"]
COLUMNS += ["image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze"]
COLUMNS += ["protocol_options", "source_options", "column"]
_BUDGET = ("image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze")


@dataclass(frozen=True)
class Row:
    """What makes a table's row: runs that differ only in their seed (and machine)."""

    method: str
    init: str
    variant: str
    version: str

    @property
    def label(self) -> str:
        """The method's name, with ``+bn`` where BatchNorm was re-estimated on the target."""
        return self.method + ("+bn" if self.init == "bn-target" else "")

    def named(self, name: str) -> bool:
        """Whether this is the row ``name``: label, and where options differ ``option=value``."""
        return f"{self.label} {self.variant}".strip() == name

    @property
    def is_baseline(self) -> bool:
        """Whether this is the plain source model, whose ids the others must have."""
        return self.named("source")


def table(records: Iterable[Record], against: str = "source") -> pd.DataFrame:
    """Return the leaderboard in long form, one line a (row, column, metric).

    ``against`` is the row to pair differences with: its label (``shot``, ``source+bn``), with its
    changed options where it has some (``dine fine_tune=0.5``).
    """
    cells = grouped(records)
    lines = [line for key in sorted(cells) for line in _column_lines(key, cells[key], against)]
    order = ["protocol", "dataset", "task", "split", "column", "metric", "method", "variant"]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return frame.sort_values([*order, "version"], ignore_index=True)


def grouped(records: Iterable[Record]) -> dict[str, dict[Row, list[Record]]]:
    """Return the runs of every cell: key of a column -> row -> records."""
    kept = list(records)
    varying = _varying_options(kept)
    cells: dict[str, dict[Row, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in kept:
        cells[column(record["spec"])][_row(record, varying)].append(record)
    return cells


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table atomically; holes are empty fields."""
    text = frame.to_csv(index=False)
    write_atomically(path, lambda file: (file.write(text.encode()), None)[1])


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


def _varying_options(records: list[Record]) -> dict[str, set[str]]:
    """Return, a method, the options with several values (for records that name no variant)."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for name, value in record["spec"]["method_options"].items():
            seen[record["spec"]["method"], name].add(json.dumps(value, sort_keys=True))
    varying: dict[str, set[str]] = defaultdict(set)
    for (method, name), values in seen.items():
        if len(values) > 1:
            varying[method].add(name)
    return varying


def _row(record: Record, varying: Mapping[str, set[str]]) -> Row:
    spec = record["spec"]
    shown = record.get("variant")
    if shown is None:
        names = varying.get(spec["method"], set())
        shown = {k: v for k, v in spec["method_options"].items() if k in names}
    versions = record.get("versions", {})
    version = f"{versions.get('method', '?')}/{versions.get('protocol', '?')}"
    return Row(spec["method"], spec["init"], _options_text(shown), version)


def _options_text(options: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={options[name]}" for name in sorted(options))


def _column_lines(key: str, rows: dict[Row, list[Record]], against: str) -> list[dict[str, Any]]:
    notes = _notes(rows)
    values = {row: {} if notes[row] else _values(runs) for row, runs in rows.items()}
    bases = [row for row in rows if row.named(against) and not notes[row]]
    base = values[bases[0]] if len(bases) == 1 else {}
    lines = []
    for row, runs in rows.items():
        for metric in sorted({name for run in runs for name in score_map(run)}):
            line = _head(key, row, runs) | {
                "metric": metric,
                "note": notes[row],
                "against": against,
            }
            by_seed = values[row].get(metric, {})
            line |= _cell(by_seed, len(runs))
            if not row.named(against):
                line |= _against(by_seed if line["n"] else {}, base.get(metric, {}), metric)
            lines.append(line)
    return lines


def _head(key: str, row: Row, runs: list[Record]) -> dict[str, Any]:
    spec = runs[0]["spec"]
    options = dict(spec["protocol_options"])
    return {
        "protocol": spec["protocol"],
        "dataset": spec["dataset"],
        "task": f"{spec['source']}→{spec['target']}",
        "split": str(options.get("split", "")),
        "method": row.label,
        "variant": row.variant,
        "version": row.version,
        "seeds": " ".join(str(seed) for seed in sorted({r["spec"]["seed"] for r in runs})),
        "reconstruction": any(run.get("reconstruction", False) for run in runs),
        "extras": " ".join(sorted({name for run in runs for name in run.get("extras", [])})),
        "protocol_options": _options_text(options),
        "source_options": _options_text({n: spec[n] for n in OPTIONAL if spec.get(n) is not None}),
        "column": key,
    } | {name: spec[name] for name in _BUDGET}


def _values(runs: list[Record]) -> dict[str, dict[int, float]]:
    """Return metric -> seed -> value; holes are left out."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for run in runs:
        for metric, value in score_map(run).items():
            if value is not None:
                found[metric][run["spec"]["seed"]] = value
    return found


def _cell(by_seed: Mapping[int, float], runs: int) -> dict[str, Any]:
    """Return mean and spread; a metric that is a hole for some seed is a hole."""
    if not by_seed or len(by_seed) < runs:
        empty = dict.fromkeys(("mean", "sd", "min", "max", "ci_low", "ci_high"))
        return {**empty, "n": 0}
    found = summarise([by_seed[seed] for seed in sorted(by_seed)])
    return {
        "mean": found.mean,
        "sd": found.sd,
        "min": found.least,
        "max": found.most,
        "ci_low": found.low,
        "ci_high": found.high,
        "n": found.n,
    }


def _against(ours: Mapping[int, float], base: Mapping[int, float], metric: str) -> dict[str, Any]:
    better = metric.partition("/")[0] not in LOWER_IS_BETTER
    found = compare(ours, base, higher_is_better=better)
    if found is None:
        return {}
    return {
        "diff_mean": found.mean,
        "diff_low": found.low,
        "diff_high": found.high,
        "diff_n": found.n,
        "verdict": found.verdict,
    }


def _notes(rows: dict[Row, list[Record]]) -> dict[Row, str]:
    """Return why a row's cell is refused in this column ("" = it is not)."""
    wanted = _references(rows)
    notes = {}
    for row, runs in rows.items():
        seeds = Counter(run["spec"]["seed"] for run in runs)
        twice = [seed for seed, count in seeds.items() if count > 1]
        problems = [f"seed {seed} has {seeds[seed]} records" for seed in sorted(twice)]
        for run in sorted(runs, key=lambda run: int(run["spec"]["seed"])):
            seed = run["spec"]["seed"]
            differs = [n for n, i in _ids(run).items() if i != wanted[seed].get(n)]
            if differs:
                problems.append(f"seed {seed}: {', '.join(differs)} id differs in this column")
        notes[row] = "; ".join(["refused", *problems]) if problems else ""
    return notes


def _ids(run: Record) -> dict[str, str]:
    ids = run.get("ids", {})
    return {name: str(ids.get(name)) for name in ("data", "stream", "source")}


def _references(rows: dict[Row, list[Record]]) -> dict[int, dict[str, str | None]]:
    """Return, a seed, the ids that hold: those of ``source``, else what most rows have."""
    by_seed: dict[int, list[tuple[Row, dict[str, str]]]] = defaultdict(list)
    for row, runs in rows.items():
        for run in runs:
            by_seed[run["spec"]["seed"]].append((row, _ids(run)))
    wanted: dict[int, dict[str, str | None]] = {}
    for seed, found in by_seed.items():
        trusted = [ids for row, ids in found if row.is_baseline] or [ids for _, ids in found]
        wanted[seed] = {name: _majority([ids[name] for ids in trusted]) for name in trusted[0]}
    return wanted


def _majority(values: list[str]) -> str | None:
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None
