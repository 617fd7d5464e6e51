"""Answers of an oracle, kept in one SQLite file: what was answered is not asked again.

Every answer lies beside a checksum. One that is damaged is forgotten, a file that is damaged set
aside, either with a warning: what is not there is asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dabench.errors import CacheError, DamageError, reason_of
from dabench.oracle.answer_forms import Float32, are_distributions

log = logging.getLogger("dabench")
#: digests a SELECT, well below SQLite's limit of variables
_BATCH = 500
#: seconds to wait for another process that is writing
_PATIENCE = 60.0
_READ_ONLY = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class AnswerStore:
    """Digest of a picture -> answer; safe with several processes on one file.

    Args:
        path: the file, made with its folder if it is not there; None keeps answers in memory.
        num_classes: K, the length of every answer.

    Raises:
        CacheError: the file cannot be opened, or neither be used nor replaced.
    """

    def __init__(self, path: Path | None, num_classes: int) -> None:
        self.path = path
        self._length = num_classes
        try:
            self._open()
        except DamageError as error:
            log.warning("%s; asking anew", error)
            self._open()

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Return those of ``digests`` that have an answer; damaged ones are forgotten."""
        try:
            found, damaged = self._select(digests)
            if damaged:
                log.warning(
                    f"stored answers {self.path}: {len(damaged)} of {len(found) + len(damaged)} "
                    "are damaged; asking anew"
                )
                with self._named():  # but not what another process has put in their place
                    self._file.executemany(
                        "DELETE FROM answers WHERE digest = ? "
                        "AND CAST(answer AS BLOB) = CAST(? AS BLOB)",
                        damaged,
                    )
        except DamageError as error:
            log.warning("%s; asking anew", error)
            self._open()
            return set()
        return set(found)

    def get(self, digests: Sequence[bytes]) -> Float32:
        """Return the answers, (N, K) float32 in the order of ``digests``, all of them known.

        Raises:
            CacheError: they were damaged since they were found to be known.
        """
        found, _ = self._select(digests)
        if not found.keys() >= set(digests):
            raise DamageError(f"stored answers {self.path} were damaged while they were in use")
        rows = np.empty((len(digests), self._length), dtype=np.float32)
        for row, digest in enumerate(digests):
            rows[row] = found[digest]
        return rows

    def add(self, digests: Sequence[bytes], answers: Float32) -> None:
        """Keep (n, K) answers for good; of two processes, the first one's stay.

        Raises:
            CacheError: they cannot be written, or the file is damaged.
        """
        rows = []
        for digest, answer in zip(digests, answers, strict=True):
            numbers = answer.astype("<f4").tobytes()
            rows.append((digest, numbers + _check(digest, numbers)))
        with self._named():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; answers in memory are forgotten."""
        self._file.close()

    def _open(self) -> None:
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._unusable(str(error.strerror)) from error
        with self._named():
            self._connect(":memory:" if self.path is None else os.fspath(self.path))
            try:
                self._prepare()
            except sqlite3.OperationalError as error:
                if self.path is None or _code(error) not in _READ_ONLY:
                    raise
                # SQLite reads where it can put no journal only if told that nobody writes
                self._file.close()
                self._connect(f"{self.path.absolute().as_uri()}?immutable=1")
                self._file.execute("SELECT digest, answer FROM answers LIMIT 1")

    def _connect(self, name: str) -> None:
        self._file = sqlite3.connect(
            name, timeout=_PATIENCE, isolation_level=None, uri=name.startswith("file:")
        )
        self._file.text_factory = bytes  # there is no text in it, and damage must not be decoded

    def _prepare(self) -> None:
        # a file system without shared memory has no WAL, and a second process cannot switch it on
        # while the first one writes: the ordinary journal is as safe, only slower
        with contextlib.suppress(sqlite3.OperationalError):
            self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS answers (digest BLOB PRIMARY KEY, answer BLOB NOT NULL)"
        )

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn SQLite's errors into one line that names the file; set aside a damaged one."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            # SQLITE_ERROR: the tables are others than ours; all else of the kind passes, as a lock
            passing = _code(error) != sqlite3.SQLITE_ERROR
            if isinstance(error, sqlite3.OperationalError) and passing:
                raise self._unusable(str(error)) from error
            self._set_aside()
            raise DamageError(
                f"stored answers {self.path} are damaged ({reason_of(error)}) and were set aside"
            ) from error

    def _unusable(self, reason: str) -> CacheError:
        return CacheError(
            f"stored answers {self.path} cannot be used ({reason}); see whether the folder can be "
            "written and no other process holds the file, or give another --cache-dir"
        )

    def _set_aside(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._file.close()
        try:
            os.replace(f"{self.path}", f"{self.path}.damaged")
            for end in ("-wal", "-shm"):  # SQLite would add what is in them to a new file
                Path(f"{self.path}{end}").unlink(missing_ok=True)
        except FileNotFoundError:  # another process was quicker
            pass
        except OSError as error:
            raise self._unusable(f"damaged, and {error.strerror}") from error

    def _select(
        self, digests: Sequence[bytes]
    ) -> tuple[dict[bytes, Float32], list[tuple[bytes, object]]]:
        """Return the answers that are there and whole, and the rows that are damaged."""
        rows: list[tuple[bytes, object]] = []
        with self._named():
            for start in range(0, len(digests), _BATCH):
                some = digests[start : start + _BATCH]
                marks = ",".join("?" * len(some))
                rows += self._file.execute(
                    f"SELECT digest, answer FROM answers WHERE digest IN ({marks})", some
                )
        return self._sort_out(rows)

    def _sort_out(
        self, rows: list[tuple[bytes, object]]
    ) -> tuple[dict[bytes, Float32], list[tuple[bytes, object]]]:
        """Unpack rows; they have to pass as fresh answers do."""
        size = 4 * self._length
        whole: list[tuple[bytes, object, bytes]] = []
        bad: list[tuple[bytes, object]] = []
        for digest, answer in rows:
            packed = answer if isinstance(answer, bytes) else b""
            numbers, check = packed[:size], packed[size:]
            # earlier versions kept no checksum
            if len(numbers) == size and check in (b"", _check(digest, numbers)):
                whole.append((digest, answer, numbers))
            else:
                bad.append((digest, answer))
        joined = b"".join(numbers for *_, numbers in whole)
        answers = np.frombuffer(joined, dtype="<f4").reshape(len(whole), self._length)
        found: dict[bytes, Float32] = {}
        fits = are_distributions(answers)
        for (digest, answer, _), row, fit in zip(whole, answers, fits, strict=True):
            if fit:
                found[digest] = row
            else:
                bad.append((digest, answer))
        return found, bad


def _code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary code; 0 where Python itself raised."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _check(digest: bytes, numbers: bytes) -> bytes:
    return zlib.crc32(numbers, zlib.crc32(digest)).to_bytes(4, "little")
