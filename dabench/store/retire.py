"""Which records to take out of the tables: by run, or by what they share (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dabench.errors import StoreError
from dabench.store.records import Record
from dabench.store.store import Store


def to_retire(
    store: Store,
    runs: Sequence[str],
    place: tuple[str, str],
    ids: Mapping[str, str],
    threads: int | None,
) -> list[Path]:
    """Return the files of the records that are meant, in the store's order.

    Args:
        store: where they lie.
        runs: run ids, unambiguous beginnings of some, or files; with any, nothing else chooses.
        place: protocol and data set, ``"*"`` for all.
        ids: name in ``record["ids"]`` -> the beginning of a digest; all of them must fit.
        threads: only runs with this many CPU threads.

    Raises:
        StoreError: nothing fits, or several runs fit one name.
    """
    if runs:
        names = [Path(run).stem if run.endswith(".json") else run for run in runs]
        return list(dict.fromkeys(map(store.find, names)))
    found = [path for path, record in store.read(*place) if _fits(record, ids, threads)]
    if not found:
        raise StoreError(f"no sound record in {store.records} has all that; nothing was moved")
    return found


def _fits(record: Record, ids: Mapping[str, str], threads: int | None) -> bool:
    if threads is not None and record["spec"]["threads"] != threads:
        return False
    return all(record["ids"][name].startswith(start) for name, start in ids.items())
