"""The run of the source model that another run is held against (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dabench.store.identity import column_key
from dabench.store.records import Record


def source_run(records: Iterable[Record], spec: Mapping[str, Any]) -> Record | None:
    """Return the ``source`` run of the same column and seed at init ``source``, if there is one."""
    found = [
        record
        for record in records
        if (record["spec"]["method"], record["spec"]["init"]) == ("source", "source")
        and record["spec"]["seed"] == spec["seed"]
        and not record.get("variant")
        and column_key(record["spec"]) == column_key(spec)
    ]
    same = [r for r in found if r["spec"]["device"] == spec["device"]]
    found = same or found
    return found[0] if len(found) == 1 else None
