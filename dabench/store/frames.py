"""Records as tidy pandas frames, for notebooks and analyses of one's own (no torch)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dabench.config.spec import OPTIONAL_FIELDS
from dabench.errors import ConfigError, StoreError
from dabench.store.identity import column_key
from dabench.store.records import Record
from dabench.store.rows import row_of
from dabench.store.store import Store

_SPEC = (
    *("image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze"),
    *("device", "threads", *OPTIONAL_FIELDS),
)
_COST = (
    *("seconds", "adapt_seconds", "peak_memory_bytes", "images_forward", "images_backward"),
    "parameters",
)
_SCORE = ("metric", "segment", "value", "n", "at")


def load_results(
    path: str | Path = "results",
    *,
    protocol: str = "*",
    dataset: str = "*",
    options: Sequence[str] = (),
    strict: bool = False,
) -> pd.DataFrame:
    """Return the final scores of all finished runs, one line a run, metric and segment.

    Columns: ``run_id``, ``protocol``, ``dataset``, ``task``, ``method`` (with ``+bn`` where
    BatchNorm was re-estimated on the target), ``variant`` (options that differ from their
    defaults), ``seed``; ``metric``, ``segment`` ("all" = the images adapted on, or the whole
    stream), ``value`` (a fraction; NaN = a hole), ``n`` samples behind it, ``at`` epoch or step;
    the rest of the spec; and cost (seconds, bytes, images). Runs of equal ``column`` may be
    compared, paired by ``seed``.

    Args:
        path: the results folder (``--results``).
        protocol: read only this protocol's runs.
        dataset: read only this data set's runs.
        options: further columns: ``method.NAME`` or ``protocol.NAME``; None for runs without it.
        strict: raise where a record is damaged, in place of a warning with their number.

    Raises:
        StoreError: no record fits, or with ``strict`` one is damaged.
        ConfigError: an option without ``method.`` or ``protocol.`` before it.
    """
    records = _records(path, protocol, dataset, strict, curves=False)
    return _tidy(records, "scores", options)


def load_curves(
    path: str | Path = "results",
    *,
    protocol: str = "*",
    dataset: str = "*",
    metrics: Sequence[str] | None = None,
    options: Sequence[str] = (),
    strict: bool = False,
) -> pd.DataFrame:
    """Return what was measured while the runs went on, one line a run, metric, segment and moment.

    Columns and arguments are those of :func:`load_results`; ``at`` is the epoch, or the step of a
    stream. The label-free scores ``im``, ``entropy`` and ``snd`` are in nats.

    Args:
        path: as there.
        protocol: as there.
        dataset: as there.
        metrics: keep these alone (streams have thousands of points a run).
        options: as there.
        strict: as there.

    Raises:
        StoreError, ConfigError: as there.
    """
    return _tidy(_records(path, protocol, dataset, strict, curves=True), "curves", options, metrics)


def _records(
    path: str | Path, protocol: str, dataset: str, strict: bool, *, curves: bool
) -> list[Record]:
    store = Store(Path(path), curves=curves)
    found = [record for _, record in store.read(protocol, dataset)]
    if store.problems and (strict or not found):
        raise StoreError(store.problems[0])
    if not found:
        place = store.records / protocol / dataset
        raise StoreError(f"no records in {place}; 'dabench run' makes them")
    if store.problems:
        warnings.warn(
            f"{len(store.problems)} damaged records left out: {store.problems[0]}", stacklevel=3
        )
    return found


def _tidy(
    records: Iterable[Record],
    part: str,
    options: Sequence[str],
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Spread every record over the lines of its ``part`` (scores or curves)."""
    runs: list[dict[str, Any]] = []
    counts: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in _SCORE}
    names: dict[str, str] = {}  # one object a name: a record brings its own
    kept = None if metrics is None else set(metrics)
    for record in records:
        rows = record[part]
        if kept is not None:
            rows = [row for row in rows if row["metric"] in kept]
        runs.append(_run(record, options))
        counts.append(len(rows))
        columns["metric"] += [names.setdefault(row["metric"], row["metric"]) for row in rows]
        segments = (row.get("segment", "all") for row in rows)
        columns["segment"] += [names.setdefault(segment, segment) for segment in segments]
        columns["value"] += [row["value"] for row in rows]
        columns["n"] += [row["n"] for row in rows]
        columns["at"] += [row.get("at", 0) for row in rows]
    columns["value"] = np.array(columns["value"], dtype=np.float64)  # type: ignore[assignment]
    lines = pd.DataFrame(runs).take(np.repeat(np.arange(len(runs)), counts))
    lines = lines.reset_index(drop=True)
    place = list(lines.columns).index("seed") + 1
    for offset, name in enumerate(_SCORE):
        lines.insert(place + offset, name, columns[name])
    return lines


def _run(record: Record, options: Sequence[str]) -> dict[str, Any]:
    """Return the columns that all lines of a run share."""
    spec, cost = record["spec"], record.get("cost") or {}
    row = row_of(record)
    run = {
        "run_id": record["run_id"],
        "protocol": spec["protocol"],
        "dataset": spec["dataset"],
        "task": f"{spec['source']}→{spec['target']}",
        "method": row.label,
        "variant": row.variant,
        "seed": spec["seed"],
        "version": row.version,
        "init": spec["init"],
        "reconstruction": bool(record.get("reconstruction", False)),
        "extras": " ".join(record.get("extras", [])),
        "column": column_key(spec),
    }
    run |= {name: spec.get(name) for name in _SPEC}
    run |= {name: cost.get(name) for name in _COST}
    return run | {name: _option(spec, name) for name in options}


def _option(spec: Mapping[str, Any], name: str) -> Any:
    side, _, option = name.partition(".")
    if side not in ("method", "protocol") or not option:
        raise ConfigError(f"options: '{name}'; 'method.NAME' or 'protocol.NAME' expected")
    return spec[f"{side}_options"].get(option)
