"""The index beside the records: what tables need of each, so that no file is read twice (no torch).

``<results>/.index.sqlite`` is derived: whoever deletes it loses time alone. An entry stands for a
file of its size and times, and only for a record that passed all checks; where the file has changed
or was damaged, it is read. A file of this moment gets no entry yet, since a second write could
leave its size and times as they are. Entries that other code made are thrown away: it may have
checked less. Where the index cannot be read or written, the files are read and nobody hears of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dabench.config import spec as spec_module
from dabench.errors import StoreError
from dabench.store.files import locked
from dabench.store.lean import Packed

NAME = ".index.sqlite"
#: nanoseconds for which a file counts as being written
SETTLED = 2_000_000_000
#: seconds to wait for another process: to read the files is no worse than to wait long
_PATIENCE = 2.0
_TABLES = (
    "DROP TABLE IF EXISTS parts",
    "DROP TABLE IF EXISTS records",
    "CREATE TABLE parts (digest BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID",
    "CREATE TABLE records (folder BLOB, run_id TEXT, size INTEGER, written INTEGER,"
    " changed INTEGER, seed INTEGER, parts BLOB, numbers BLOB, own TEXT,"
    " PRIMARY KEY (folder, run_id))",
)


class Entry(NamedTuple):
    """A record, and the file that it was read from: size, times of content and of inode (ns)."""

    times: tuple[int, int, int]
    packed: Packed

    @property
    def is_settled(self) -> bool:
        """Whether a later write would show in the times."""
        return time.time_ns() - max(self.times[1:]) > SETTLED


class RecordIndex:
    """The index of a results folder.

    Args:
        root: the results folder.
    """

    def __init__(self, root: Path) -> None:
        self._path, self._records = root / NAME, root / "records"
        self._version = _version()
        self._file: sqlite3.Connection | None = None
        self._usable, self._broken = True, False
        if self._path.exists():
            with self._careful():
                file = self._connected()
                if file.execute("PRAGMA user_version").fetchone() == (self._version,):
                    self._file = file

    def parts(self) -> dict[bytes, str]:
        """Return what records share, by digest."""
        found: dict[bytes, str] = {}
        with self._careful():
            if self._file is not None:
                found.update(self._file.execute("SELECT digest, text FROM parts"))
        return found

    def entries(self, folder: bytes, after: str, most: int) -> dict[str, Entry]:
        """Return run id -> entry of a folder: those that come after a run id, so many at most."""
        found: dict[str, Entry] = {}
        query = "SELECT * FROM records WHERE folder = ? AND run_id > ? ORDER BY run_id LIMIT ?"
        with self._careful():
            if self._file is not None:
                for row in self._file.execute(query, (folder, after, most)):
                    found[row[1]] = Entry(row[2:5], Packed(*row[5:]))
        return found

    def save(
        self,
        stale: Iterable[tuple[bytes, str]],
        fresh: Iterable[tuple[bytes, str, Entry]],
        parts: Iterable[tuple[bytes, str]],
    ) -> None:
        """Remove entries (folder, run id), add others, and what they share.

        One process at a time does it: a broken index is replaced while nobody writes there.
        """
        with contextlib.suppress(StoreError), self._careful(), locked(self._records):
            if not self._usable:
                return
            if self._broken:
                self._path.unlink(missing_ok=True)
                self._path.with_name(f"{NAME}-journal").unlink(missing_ok=True)
                self._broken = False
            file = self._file or self._connected()
            file.execute("BEGIN IMMEDIATE")
            if file.execute("PRAGMA user_version").fetchone() != (self._version,):
                for command in (*_TABLES, f"PRAGMA user_version = {self._version}"):
                    file.execute(command)
            file.executemany("DELETE FROM records WHERE folder = ? AND run_id = ?", stale)
            file.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?)", parts)
            rows = ((folder, name, *entry.times, *entry.packed) for folder, name, entry in fresh)
            file.executemany(f"INSERT OR REPLACE INTO records VALUES ({'?, ' * 8}?)", rows)
            file.execute("COMMIT")
            self._file = file

    def refuse(self) -> None:
        """Take nothing from a file that holds something else; the next ``save`` replaces it."""
        self.close()
        self._broken = True

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        """Do without the index where it fails; a broken one is replaced by the next ``save``."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.close()
            # locked, read-only, a full disk: not for this time
            self._usable = not isinstance(error, sqlite3.OperationalError | OSError)
            self._broken = self._usable


def _version() -> int:
    """Return a number that is another one when code that reads and checks records changes."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(spec_module.__file__)]
    return zlib.crc32(b"".join(file.read_bytes() for file in files) + sys.byteorder.encode()) >> 1
