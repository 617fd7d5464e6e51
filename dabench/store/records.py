"""What a record of a run is: a dict that goes into one JSON file (no torch).

A record::

    {"schema": 1,
     "run_id": "…",
     "spec": {RunSpec.to_dict()},
     "variant": {method options that differ from their defaults},
     "ids": {"data": digest, "stream": digest, "source": id},
     "versions": {"method": "1", "protocol": "1", "dabench": …, …; of some "init", "dataset"},
     "environment": {"device", "threads", "git_commit", …},
     "cost": {"seconds", "peak_memory_bytes", …},
     "source_model": {what the run started from, and what it scores on the source's own images},
     "extras": [names of granted extras],
     "plugins": [{"kind", "name", …}] where a class of an installed package or a file took part,
     "tuned": {"file", "sha256"} where a file of ``dabench tune`` gave the method's options,
     "target_tuned": true where labels of the target chose the options,
     "reconstruction": false,
     "scores": [{"metric", "value" (null = hole), "n", "segment", "at"}, …],
     "curves": [the same, per scored epoch; in the file only where nothing lies beside it],
     "predictions": "<run_id>.npz" (or ".1.npz" and so on, after another run) or null: predictions
                    by sample, and curves,
     "predictions_checksum" or "curves_checksum", "checksum": see checksum.py; older ones have none}

A run that failed has ``"failed": true`` and its ``"traceback"`` as well, and no score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dabench.contract.types import Score

SCHEMA = 1
Record = dict[str, Any]


def score_to_row(score: Score) -> Record:
    """Return a score as it stands in a record; a non-finite value becomes a hole."""
    row: Record = without_nan(vars(score))
    return row


def score_name(row: Mapping[str, Any]) -> str:
    """Return how tables call a record's row: ``metric``, or ``metric/segment``."""
    segment = row.get("segment", "all")
    return str(row["metric"] if segment == "all" else f"{row['metric']}/{segment}")


def score_map(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the record's final scores by ``metric`` or ``metric/segment``; NaN is a hole."""
    found: dict[str, float | None] = {}
    for row in record["scores"]:
        value = row["value"]
        found[score_name(row)] = value if value is not None and math.isfinite(value) else None
    return found


def without_nan(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not know, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, list | tuple) else value
