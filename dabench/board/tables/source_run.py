"""The run of the source model that another run is held against (no torch)."""

from __future__ import annotations

from collections.abc import Iterable

from dabench.board.tables.agreement import ids_of
from dabench.store.identity import column_of
from dabench.store.records import Record
from dabench.store.rows import row_of


def source_run(records: Iterable[Record], run: Record) -> Record | None:
    """Return the ``source`` run of a run's column and seed at init ``source``, if there is one.

    As in a table it has the run's data, stream and source model, and its version of the protocol.
    """
    spec, row = run["spec"], row_of(run)
    found = [
        record
        for record in records
        if (record["spec"]["method"], record["spec"]["init"]) == ("source", "source")
        and record["spec"]["seed"] == spec["seed"]
        and not record.get("variant")
        and column_of(record) == column_of(run)
        and ids_of(record) == ids_of(run)
        and row_of(record).protocol_version == row.protocol_version
    ]
    same = [r for r in found if r["spec"]["device"] == spec["device"]]
    found = same or found
    return found[0] if len(found) == 1 else None
