"""Records -> what a page keeps of them, so that 100,000 fit into memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from dabench.board.records import Record, Store, column

#: runs up to which every run's own figures stand in the page
DETAIL = 5_000
#: what of ``cost`` is shown
COSTS = ("images_forward", "images_backward", "adapt_seconds", "seconds", "peak_memory_bytes")
_PER_CLASS = ("class_accuracy", "class_iou")
_RUNNING = ("running_accuracy", "running_mIoU")


@dataclass(frozen=True)
class Curve:
    """A figure along a stream: ``at`` (N,) steps, ``value`` (N,) fractions."""

    name: str
    at: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


@dataclass
class Gathered:
    """The records of a store, each reduced; ``problems`` names the files that were skipped."""

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failed: int = 0
    detail: bool = True


def gather(store: Store, only: str = "") -> Gathered:
    """Read a store.

    Args:
        store: of the records.
        only: beginning of the keys of the columns that are wanted, as ``sf-osda/digits``.
    """
    names = only.split("/")
    # a beginning may stop within a name: only whole names narrow what is read
    protocol = names[0] if len(names) > 1 else "*"
    dataset = names[1] if len(names) > 2 else "*"
    found = Gathered(detail=_few(store, protocol, dataset))
    shared: dict[str, Any] = {}
    for path, record in store.all(protocol, dataset):
        try:
            if column(record["spec"]).startswith(only):
                found.records.append(reduced(record, shared, detail=found.detail))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            found.problems.append(f"{path} lacks what a record has ({what}); it is left out")
    found.problems = [*store.problems, *found.problems]
    found.failed = len(store.failed())
    return found


def reduced(record: Record, shared: dict[str, Any], *, detail: bool = True) -> Record:
    """Return what tables and dialogs need of a record.

    Args:
        record: as in ``board.records``.
        shared: equal parts of earlier records; they are kept once.
        detail: keep scores of single classes, and the running figure of streams.

    Raises:
        KeyError, TypeError, ValueError: the record lacks something that a table needs.
    """
    spec = {sys.intern(name): _word(value) for name, value in record["spec"].items()}
    spec["seed"] = int(spec["seed"])
    for name in ("method_options", "protocol_options"):
        spec[name] = _once(shared, dict(spec[name]))
    kept: Record = {
        "run_id": str(record["run_id"]),
        "spec": spec,
        "ids": {sys.intern(n): _word(str(v)) for n, v in (record.get("ids") or {}).items()},
        "versions": _once(shared, dict(record.get("versions") or {})),
        "cost": {n: float(v) for n, v in (record.get("cost") or {}).items() if n in COSTS},
        "commit": _word(str((record.get("environment") or {}).get("git_commit") or "")),
        "extras": _once(shared, [str(name) for name in record.get("extras") or []]),
        "reconstruction": bool(record.get("reconstruction")),
        "scores": [_score(r) for r in record["scores"] if detail or r["metric"] not in _PER_CLASS],
        "curves": running(record) if detail else [],
    }
    if record.get("variant") is not None:
        kept["variant"] = _once(shared, dict(record["variant"]))
    return kept


def running(record: Mapping[str, Any]) -> list[Curve]:
    """Return the running figure of a stream: the method's, and the source model's beside it."""
    found = []
    for segment in ("all", "source"):
        rows = [
            row
            for row in record.get("curves") or []
            if row["metric"] in _RUNNING and row["segment"] == segment and row["value"] is not None
        ]
        if len(rows) > 1:
            at = np.array([row["at"] for row in rows], np.int64)
            value = np.array([row["value"] for row in rows], np.float64)
            found.append(Curve("" if segment == "all" else segment, at, value))
    return found


def _few(store: Store, protocol: str, dataset: str) -> bool:
    files = store.records.glob(f"{protocol}/{dataset}/*.json")
    return sum(1 for _ in islice(files, DETAIL + 1)) <= DETAIL


def _score(row: Mapping[str, Any]) -> Record:
    value = None if row["value"] is None else float(row["value"])
    return {
        "metric": _word(str(row["metric"])),
        "value": value if value is not None and math.isfinite(value) else None,
        "n": int(row["n"]),
        "segment": _word(str(row.get("segment", "all"))),
        "at": int(row.get("at", 0)),
    }


def _word(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value


def _once(shared: dict[str, Any], part: Any) -> Any:
    return shared.setdefault(repr(part), part)
