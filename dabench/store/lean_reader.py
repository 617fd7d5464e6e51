"""Reads records without their curves, from the index where it has them (no torch)."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from dabench.store.index import Entry, RecordIndex
from dabench.store.lean import Parts
from dabench.store.reading import load_record
from dabench.store.records import Record

#: entries that are read or written at once
_BATCH = 5000
#: after every run id
_END = chr(sys.maxunicode)


class LeanReader:
    """Reads records of a store in its order.

    Args:
        root: the results folder.
        index: False reads every file, those beside the records too, and leaves the index alone.
    """

    def __init__(self, root: Path, *, index: bool = True) -> None:
        self._index = RecordIndex(root) if index else None
        try:
            self._parts = Parts(self._index.parts() if self._index else {})
        except (TypeError, ValueError):
            self._parts = Parts()
            if self._index:
                self._index.refuse()
        self._saved = set(self._parts.texts)
        self._place, self._folder, self._last = ("", ""), b"", _END
        self._entries: dict[str, Entry] = {}
        self._stale: list[tuple[bytes, str]] = []
        self._fresh: list[tuple[bytes, str, Entry]] = []

    def load(self, path: Path) -> Record:
        """Return a file's record as ``load_record`` reads it; what it shares must not be changed.

        Raises:
            StoreError: as there.
        """
        *_, protocol, dataset, name = path.parts
        run_id = name.partition(".")[0]
        if (protocol, dataset) != self._place:
            self._enter((protocol, dataset))
        while run_id > self._last:
            self._fetch()
        try:
            file = os.stat(path)
        except OSError:
            return load_record(path, curves=False)  # which says what is wrong
        times = (file.st_size, file.st_mtime_ns, file.st_ctime_ns)
        entry = self._entries.get(run_id)
        if entry is not None and entry.times == times:
            del self._entries[run_id]
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a row that makes no record
                record = self._parts.unpack(entry.packed)
                if record["run_id"] == run_id:
                    return record
        whole = load_record(path, curves=False, strict=self._index is None)
        fresh = Entry(times, self._parts.pack(whole))
        if name == f"{whole['run_id']}.json" and fresh.is_settled:
            self._entries.pop(run_id, None)
            self._fresh.append((self._folder, run_id, fresh))
        if len(self._fresh) == _BATCH:
            self._save()
        return self._parts.unpack(fresh.packed)

    def update(self) -> None:
        """Bring the index up to date, once every record of the folders was read."""
        self._enter(("", ""))
        if self._stale or self._fresh:
            self._save()

    def close(self) -> None:
        """Let the index go."""
        if self._index:
            self._index.close()

    def _enter(self, place: tuple[str, str]) -> None:
        """Go on to another folder, when all of the last one was read."""
        while self._folder and self._last != _END:
            self._fetch()
        self._drop()
        self._place, self._folder, self._last = place, os.fsencode(os.path.join(*place)), ""

    def _fetch(self) -> None:
        """Fetch the next entries, in the order of the files."""
        self._drop()
        found = self._index.entries(self._folder, self._last, _BATCH) if self._index else {}
        self._entries = found
        self._last = max(found) if len(found) == _BATCH else _END

    def _drop(self) -> None:
        """What is left of the entries has lost its file, or that is no sound record any more."""
        self._stale += [(self._folder, run_id) for run_id in self._entries]
        self._entries = {}

    def _save(self) -> None:
        if self._index:
            parts = {d: text for d, text in self._parts.texts.items() if d not in self._saved}
            self._index.save(self._stale, self._fresh, parts.items())
            self._saved |= parts.keys()
        self._stale, self._fresh = [], []
