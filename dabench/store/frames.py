"""Records as tidy pandas frames, for notebooks and analyses of one's own (no torch)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dabench.config.spec import OPTIONAL_FIELDS
from dabench.errors import ConfigError, StoreError, did_you_mean
from dabench.registry import DATASETS, PROTOCOLS
from dabench.store.garbage import collector_paused
from dabench.store.identity import BUDGET, column_of
from dabench.store.lean import LeanScores, head_of
from dabench.store.records import Record
from dabench.store.rows import row_of
from dabench.store.store import Store

_SPEC = (*BUDGET, "device", "threads", *OPTIONAL_FIELDS)
_COST = (
    *("seconds", "adapt_seconds", "peak_memory_bytes", "images_forward", "images_backward"),
    *("parameters", "step_memory_bytes"),
)
_FIRST = ("run_id", "protocol", "dataset", "task", "method", "variant", "seed")
_SCORE = ("metric", "segment", "value", "n", "at")
#: the number of the metric, that of the segment, n and at of each score
_Fields = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[Any], npt.NDArray[Any]]


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
        strict: read every file anew, and raise where a record is damaged, in place of a warning
            with their number.

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
    stream. The label-free scores ``im``, ``entropy``, ``entropy-classes`` and ``snd`` are in nats.

    Args:
        path: as there.
        protocol: as there.
        dataset: as there.
        metrics: keep these alone (streams have thousands of points a run).
        options: as there.
        strict: as there.

    Raises:
        StoreError, ConfigError: as there; and a metric that none of the curves is of.
    """
    records = _records(path, protocol, dataset, strict, curves=True)
    frame = _tidy(records, "curves", options, metrics)
    if lacking := sorted({*(metrics or ())} - {*frame["metric"]}):
        known = {row["metric"] for record in records for row in record["curves"]}
        raise ConfigError(f"metrics: no curve of {lacking[0]}{did_you_mean(lacking[0], known)}")
    return frame


def _records(
    path: str | Path, protocol: str, dataset: str, strict: bool, *, curves: bool
) -> list[Record]:
    store = Store(Path(path), curves=curves, index=not strict)
    found = [record for _, record in store.read(protocol, dataset)]
    if store.problems and (strict or not found):
        raise StoreError(store.problems[0])
    if not found:
        place = store.records / protocol / dataset
        names = ((protocol, PROTOCOLS), (dataset, DATASETS))
        near = (did_you_mean(n, known) for n, known in names if n != "*" and n not in known)
        raise StoreError(f"no records in {place}{next(near, '')}; 'dabench run' makes them")
    if store.problems:
        warnings.warn(
            f"{len(store.problems)} damaged records left out: {store.problems[0]}", stacklevel=3
        )
    return found


@collector_paused()
def _tidy(
    records: Iterable[Record],
    part: str,
    options: Sequence[str],
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Spread every record over the lines of its ``part`` (scores or curves)."""
    scores = _ScoreColumns()
    own: dict[str, list[Any]] = {name: [] for name in ("run_id", "seed", *_COST)}
    shared: dict[int, dict[str, Any]] = {}  # by what records of the store share
    places: dict[int, int] = {}
    heads: list[int] = []
    kept = None if metrics is None else set(metrics)
    for record in records:
        rows = record[part]
        scores.add(rows if kept is None else [row for row in rows if row["metric"] in kept])
        head = id(head_of(record))
        if head not in shared:
            shared[head] = _shared(record, options)
        heads.append(places.setdefault(head, len(places)))
        own["run_id"].append(record["run_id"])
        own["seed"].append(record["spec"]["seed"])
        cost = record.get("cost") or {}
        for name in _COST:
            own[name].append(cost.get(name))
    lines = scores.columns()
    run = np.repeat(np.arange(len(heads)), scores.counts)
    lines |= {name: pd.Series(values).array.take(run) for name, values in own.items()}
    place = np.array(heads, dtype=np.intp)[run]
    common = pd.DataFrame(list(shared.values()))
    names = list(map(str, common.columns))
    lines |= {name: common[name].array.take(place) for name in names}
    spec = (name for name in names if name not in options)
    order = dict.fromkeys([*_FIRST, *_SCORE, *spec, *_COST, *options])
    return pd.DataFrame({name: lines[name] for name in order}, copy=False)


class _ScoreColumns:
    """Scores, a column each field; ``counts`` are those of each run."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._values: list[npt.NDArray[np.float64]] = []
        self._others: list[_Fields] = []
        self._layouts: dict[int, _Fields] = {}
        self._names: dict[str, int] = {}

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add those of a run."""
        if isinstance(rows, LeanScores):
            layout = rows.layout
            if id(layout) not in self._layouts:
                self._layouts[id(layout)] = self._fields(layout.rows)
            fields, values = self._layouts[id(layout)], np.frombuffer(rows.values)
        else:
            fields = self._fields(rows)
            values = np.array([row["value"] for row in rows], dtype=np.float64)
        self.counts.append(len(values))
        self._values.append(values)
        self._others.append(fields)

    def columns(self) -> dict[str, Any]:
        """Return the columns ``_SCORE``."""
        metric, segment, n, at = map(np.concatenate, zip(*self._others, strict=True))
        names = pd.Series(list(self._names), dtype="str").array
        found = {"metric": names.take(metric), "segment": names.take(segment)}
        return found | {"value": np.concatenate(self._values), "n": n, "at": at}

    def _fields(self, rows: Sequence[Mapping[str, Any]]) -> _Fields:
        """Return the numbers of metrics and segments, n and at."""
        known = self._names
        metrics = [known.setdefault(row["metric"], len(known)) for row in rows]
        segments = [known.setdefault(row.get("segment", "all"), len(known)) for row in rows]
        n, at = [row["n"] for row in rows], [row.get("at", 0) for row in rows]
        return (np.array(metrics, np.intp), np.array(segments, np.intp), _whole(n), _whole(at))


def _whole(values: list[int]) -> npt.NDArray[Any]:
    return np.array(values) if values else np.array([], dtype=np.int64)


def _shared(record: Record, options: Sequence[str]) -> dict[str, Any]:
    """Return the columns that runs of a row share."""
    spec, row = record["spec"], row_of(record)
    shared = {
        "protocol": spec["protocol"],
        "dataset": spec["dataset"],
        "task": f"{spec['source']}→{spec['target']}",
        "method": row.label,
        "variant": row.variant,
        "version": row.version,
        "init": spec["init"],
        "reconstruction": bool(record.get("reconstruction", False)),
        "extras": " ".join(record.get("extras", [])),
        "column": column_of(record),
    }
    shared |= {name: spec.get(name) for name in _SPEC}
    return shared | {name: _option(spec, name) for name in options}


def _option(spec: Mapping[str, Any], name: str) -> Any:
    side, _, option = name.partition(".")
    if side not in ("method", "protocol") or not option:
        raise ConfigError(f"options: '{name}'; 'method.NAME' or 'protocol.NAME' expected")
    return spec[f"{side}_options"].get(option)
