"""Trials' records -> the file of chosen options, with the whole curve of every method."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dabench.config.command import run_command
from dabench.config.conditions import conditions
from dabench.config.spec import RunSpec
from dabench.config.tuned import SCHEMA, file_digest, model_files, network_of
from dabench.errors import StoreError
from dabench.registry import primary_metric
from dabench.store.files import write_bytes_atomically
from dabench.store.identity import FILES, IDS, known_before, versions_of
from dabench.store.records import Record, score_map
from dabench.sweep.tuning import Trial, TuningGrid

_HEAD = """\
# Options that `dabench tune` chose on development shifts, and what every trial scored there.
# `dabench run --tuned FILE` reads them (docs/tuning.md). Records name this file's SHA-256.
"""
#: a trial's records by task; None where a run has none
Runs = Sequence[Record | None]


def tuned_content(
    tuning: TuningGrid, records: Iterable[Record], failed: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Return what the file says; equal trials make equal files.

    Args:
        tuning: the grid.
        records: of the store of trials.
        failed: ``spec_key`` of a run whose training diverged -> the error.
        command: that makes the file again.

    Raises:
        StoreError: a trial without record, trials that did not run on the same data, stream and
            source model, or a method without a score.
    """
    trials = [trial for found in tuning.trials.values() for trial in found]
    runs = _runs(tuning, trials, records, failed)
    for trial, own in zip(trials, runs, strict=True):
        if None in own and not any(spec_key(spec) in failed for spec in trial.specs):
            raise StoreError(f"{trial.name} has no record; run 'dabench tune' again")
    kept = [record for own in runs for record in own if record is not None]
    spec, metric = tuning.spec, primary_metric(tuning.spec.protocol, tuning.spec.dataset)
    files = {name: kept[0]["ids"][name] for name in sorted(FILES) if name in kept[0]["ids"]}
    files |= model_files(spec.plugins)
    left = iter(runs)
    return {
        "schema": int(SCHEMA),
        "command": command,
        "grid": {"file": tuning.path.name, "sha256": file_digest(tuning.path)},
        "protocol": spec.protocol,
        "dataset": spec.dataset,
        "network": network_of(spec.to_dict(), files),
        "files": files,
        # as the data set spells them, too: a run is compared once its data are loaded
        "development": sorted(tuning.development.union(*(conditions(r["spec"]) for r in kept))),
        "reported": sorted(tuning.reported),
        "metric": metric,
        "trials": tuning.count,
        "versions": _versions(kept),
        "tasks": [
            _task(spec, next(r for r in column if r is not None))
            for spec, column in zip(trials[0].specs, zip(*runs, strict=True), strict=True)
        ],
        "methods": {
            label: _method(own, [next(left) for _ in own], failed, metric)
            for label, own in tuning.trials.items()
        },
    }


def write_tuned(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file, whole or not at all.

    Raises:
        StoreError: the disk refuses.
    """
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
    write_bytes_atomically(path, f"{_HEAD}{text}".encode())


def at_edge(method: Mapping[str, Any]) -> list[str]:
    """Return the options of a method in the file whose choice is the least or the largest tried."""
    found = []
    for name, chosen in method["options"].items():
        tried = [point["options"][name] for point in method["curve"]]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in tried):
            least, most = min(tried), max(tried)
            found += [name] if least < most and chosen in (least, most) else []
    return found


def spec_key(spec: RunSpec) -> str:
    """Return what a record and a run of this spec share."""
    return known_before(spec.to_dict(), versions_of(spec))


def _runs(
    tuning: TuningGrid, trials: Sequence[Trial], records: Iterable[Record], failed: Collection[str]
) -> list[list[Record | None]]:
    """Return trial -> task -> record; all records of a task are of one stream and source model.

    A run that diverged when it was made again has none, though its earlier one is still there.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[known_before(record["spec"], record.get("versions", {}))].append(record)
    for key in failed:
        found.pop(key, None)
    there = [[found[spec_key(spec)] for spec in trial.specs] for trial in trials]
    shared = [_shared_ids(tuning, column) for column in zip(*there, strict=True)]
    return [
        [
            next((r for r in own if _ids(r) == ids), None)
            for own, ids in zip(row, shared, strict=True)
        ]
        for row in there
    ]


def _shared_ids(tuning: TuningGrid, column: Sequence[Sequence[Record]]) -> dict[str, str]:
    """Return the ids of data, stream and source model on which all trials of a task ran."""
    sets = [{tuple(_ids(record).items()) for record in records} for records in column if records]
    shared = set.intersection(*sets) if sets else set()
    if len(shared) == 1:
        return dict(shared.pop())
    how = "more than once, on several data or models" if shared else "on different data or models"
    if not sets:
        raise StoreError(f"grid {tuning.path.name}: every trial diverged; try other options")
    raise StoreError(
        f"grid {tuning.path.name}: the trials ran {how}; 'dabench store retire' takes old ones out "
        "of the folder of trials"
    )


def _ids(record: Record) -> dict[str, str]:
    return {name: record["ids"][name] for name in IDS}


def _method(
    trials: Sequence[Trial], runs: Sequence[Runs], failed: Mapping[str, str], metric: str
) -> dict[str, Any]:
    """Return a method's part: the best trial (of equal ones the first), and the curve."""
    curve = [_point(*pair, failed, metric) for pair in zip(trials, runs, strict=True)]
    scored = [(p["score"], -n) for n, p in enumerate(curve) if p["score"] is not None]
    if not scored:
        raise StoreError(
            f"{trials[0].method}: none of its {len(trials)} trials has a score of {metric}; "
            "try other options"
        )
    best = -max(scored)[1]
    spec = trials[best].specs[0]
    return {
        "version": versions_of(spec)["method"],
        "options": dict(curve[best]["options"]),
        "score": curve[best]["score"],
        "command": run_command(spec),
        "curve": curve,
    }


def _point(trial: Trial, runs: Runs, failed: Mapping[str, str], metric: str) -> dict[str, Any]:
    """Return a trial's part: its score is the mean over tasks and seeds, and a hole if one is."""
    scores = [None if r is None else score_map(r).get(metric) for r in runs]
    known = [value for value in scores if value is not None]
    point = {
        "options": trial.options,
        "score": math.fsum(known) / len(known) if len(known) == len(scores) else None,
        "scores": scores,
        "runs": [None if r is None else r["run_id"] for r in runs],
    }
    errors = [failed[key] for key in map(spec_key, trial.specs) if key in failed]
    return point | ({"failed": errors[0]} if errors else {})


def _task(spec: RunSpec, record: Record) -> dict[str, Any]:
    options = {n: v for n, v in spec.protocol_options.items() if v is not None}
    task = {"source": spec.source, "target": spec.target, "seed": spec.seed}
    return task | {"options": options, "ids": _ids(record)}


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """Return the versions of all trials (of a method's its own part tells); of several all."""
    names = [name for name in records[0]["versions"] if name not in ("method", "init")]
    return {
        name: ", ".join(sorted({str(r["versions"].get(name)) for r in records})) for name in names
    }
