"""The run of the source model that another run is held against (no torch)."""

from __future__ import annotations

from collections.abc import Iterable

from dabench.store.identity import column_of
from dabench.store.records import Record


def source_run(records: Iterable[Record], run: Record) -> Record | None:
    """Return the ``source`` run of a run's column and seed at init ``source``, if there is one."""
    spec = run["spec"]
    found = [
        record
        for record in records
        if (record["spec"]["method"], record["spec"]["init"]) == ("source", "source")
        and record["spec"]["seed"] == spec["seed"]
        and not record.get("variant")
        and column_of(record) == column_of(run)
    ]
    same = [r for r in found if r["spec"]["device"] == spec["device"]]
    found = same or found
    return found[0] if len(found) == 1 else None
