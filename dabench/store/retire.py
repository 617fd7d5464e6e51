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
        StoreError: nothing fits, several runs fit one name, or a file is no record of the store.
    """
    if runs:
        return list(dict.fromkeys(_named(store, run) for run in runs))
    found = [path for path, record in store.read(*place) if _fits(record, ids, threads)]
    if not found:
        raise StoreError(f"no sound record in {store.records} has all that; nothing was moved")
    return found


def _named(store: Store, run: str) -> Path:
    """Return the record of a run id, or a file: a run of its id in another folder is not meant."""
    if not run.endswith(".json"):
        return store.find(run)
    path = Path(run)
    place = path.parent.resolve()
    inside = place.parent.parent == store.records.resolve()
    if inside and path.is_file():
        return store.path(place.parent.name, place.name, path.stem)
    if inside:
        raise StoreError(f"{path}: no such file; give a record that is there, or a run id")
    root = place.parent.parent.parent if place.parent.parent.name == "records" else None
    results = f"--results {root}" if root else "the --results in whose records/ it lies"
    raise StoreError(f"{path} is no record of {store.records}; give {results}")


def _fits(record: Record, ids: Mapping[str, str], threads: int | None) -> bool:
    if threads is not None and record["spec"]["threads"] != threads:
        return False
    return all(record["ids"][name].startswith(start) for name, start in ids.items())
