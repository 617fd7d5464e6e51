"""Records -> what a page keeps of them, so that 100,000 fit into memory."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dabench.board.page import texts
from dabench.registry.method_info import REGISTERED, MethodInfo
from dabench.store.identity import column_of
from dabench.store.records import Record, score_name
from dabench.store.store import Store

#: runs up to which every run's own figures stand in the page
DETAIL = 5_000
#: metrics beside the one that ranks above that number
FEW_METRICS = 2
#: scores that a row's mark and its passes are made of, whether they are shown or not
NEEDED = ("below_source", "unlabelled")
#: what of ``cost`` is shown
COSTS = (
    *("images_forward", "images_backward", "adapt_seconds", "seconds", "peak_memory_bytes"),
    "step_memory_bytes",
)
#: curves of a stream that its chart draws
RUNNING = ("running_accuracy", "running_mIoU")


@dataclass(frozen=True)
class Curve:
    """A figure along a stream: ``at`` (N,) steps, ``value`` (N,) fractions."""

    name: str
    at: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


@dataclass
class PageRecords:
    """The records of a store, each reduced; ``problems`` names the files that were skipped."""

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failed: int = 0
    detail: bool = True


def read_page_records(root: Path, only: str = "", info: MethodInfo = REGISTERED) -> PageRecords:
    """Read a store.

    Args:
        root: the results folder.
        only: beginning of the keys of the columns that are wanted, as ``sf-osda/digits``.
        info: knows the metrics that rank; where there are many runs, few others are kept.
    """
    names = only.split("/")
    # a beginning may stop within a name: only whole names narrow what is read
    protocol = names[0] if len(names) > 1 else "*"
    dataset = names[1] if len(names) > 2 else "*"
    finished, failed = _census(root / "records", protocol, dataset)
    found = PageRecords(failed=failed, detail=finished <= DETAIL)
    store = Store(root, curves=found.detail)
    reducer = RecordReducer(info, detail=found.detail)
    for path, record in store.all(protocol, dataset):
        try:
            if not only or column_of(record).startswith(only):
                found.records.append(reducer.reduced(record))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            found.problems.append(f"{path} lacks what a record has ({what}); it is left out")
    found.problems = [*store.problems, *found.problems]
    return found


class RecordReducer:
    """Reduces records; what is equal in many of them is kept once.

    Args:
        info: knows the metrics that rank.
        detail: keep all scores and the running figure of streams; otherwise a few metrics.
    """

    def __init__(self, info: MethodInfo = REGISTERED, *, detail: bool = True) -> None:
        self._info, self._detail = info, detail
        self._shared: dict[str, Any] = {}
        self._dropped: dict[tuple[str, str], set[tuple[str, str]]] = {}

    def reduced(self, record: Record) -> Record:
        """Return what tables and dialogs need of a record.

        Raises:
            KeyError, TypeError, ValueError: the record lacks something that a table needs.
        """
        spec = {sys.intern(name): _word(value) for name, value in record["spec"].items()}
        for name in ("method_options", "protocol_options"):
            spec[name] = self._once(dict(spec[name]))
        kept: Record = {
            "run_id": str(record["run_id"]),
            "spec": spec,
            "ids": {name: _word(str(value)) for name, value in (record.get("ids") or {}).items()},
            "versions": self._once(dict(record.get("versions") or {})),
            "extras": self._once([str(name) for name in record.get("extras") or []]),
            "reconstruction": bool(record.get("reconstruction")),
            "cost": {
                name: float(value)
                for name, value in (record.get("cost") or {}).items()
                if name in COSTS and value is not None
            },
            "commit": _word(str((record.get("environment") or {}).get("git_commit") or "")),
            "scores": self._scores(record),
            "curves": running_curves(record) if self._detail else [],
        }
        if record.get("target_tuned"):
            kept["target_tuned"] = True
        if record.get("tuned"):
            kept["tuned"] = self._once(dict(record["tuned"]))
        if record.get("variant") is not None:
            kept["variant"] = self._once(dict(record["variant"]))
        return kept

    def _scores(self, record: Record) -> list[Record]:
        rows = record["scores"]
        if self._detail:
            return [_score(row) for row in rows]
        dropped = self._drop(record)
        return [_score(r) for r in rows if (r["metric"], r.get("segment", "all")) not in dropped]

    def _drop(self, record: Record) -> set[tuple[str, str]]:
        """Return the metrics without a place in a large page: judged once for a data set."""
        spec = record["spec"]
        task = (spec["protocol"], spec["dataset"])
        if task not in self._dropped:
            by_name = {
                score_name(row): (row["metric"], row.get("segment", "all"))
                for row in record["scores"]
            }
            primary = self._info.primary(*task)
            kept = {primary, *texts.headline_metrics(by_name, primary, FEW_METRICS), *NEEDED}
            self._dropped[task] = {pair for name, pair in by_name.items() if name not in kept}
        return self._dropped[task]

    def _once(self, part: Any) -> Any:
        return self._shared.setdefault(repr(part), part)


def running_curves(record: Mapping[str, Any]) -> list[Curve]:
    """Return the running figure of a stream: the method's, and the source model's beside it."""
    found = []
    for segment in ("all", "source"):
        rows = [
            row
            for row in record.get("curves") or []
            if row["metric"] in RUNNING and row["segment"] == segment and row["value"] is not None
        ]
        if len(rows) > 1:
            at = np.array([row["at"] for row in rows], np.int64)
            value = np.array([row["value"] for row in rows], np.float64)
            found.append(Curve("" if segment == "all" else segment, at, value))
    return found


def _census(records: Path, protocol: str, dataset: str) -> tuple[int, int]:
    """Return how many finished runs there are, and how many that only failed."""
    finished = failed = 0
    for folder in records.glob(f"{protocol}/{dataset}"):
        if folder.is_dir() and folder.parent.name != "superseded":
            names = {name for name in os.listdir(folder) if name.endswith(".json")}
            bad = {name for name in names if name.endswith(".failed.json")}
            finished += len(names) - len(bad)
            failed += sum(name.replace(".failed.json", ".json") not in names for name in bad)
    return finished, failed


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
